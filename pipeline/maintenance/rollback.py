"""Rollback: restore both tables to an earlier version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike, fspath

from pipeline.maintenance.announce import announce_commit
from pipeline.state.night import supersede
from pipeline.state.run import new_run_id, unfinished_run
from pipeline.tables import Tables
from pipeline.tables.history import Version, versions_of
from pipeline.tables.table import Table
from transforms.errors import Refused, UserError
from transforms.storage import open_storage
from transforms.storage.settings import Stores


@dataclass(frozen=True, slots=True)
class Rollback:
    """The result of a rollback."""

    output: str  # as the caller named it
    restored: int  # the earlier version of features
    time: datetime  # UTC, of that version
    features_rows: int
    errors_rows: int
    version: int | None  # of features, which readers see now

    def __str__(self) -> str:
        return (
            f"rolled back {self.output} to version {self.restored} of "
            f"{self.time:%Y-%m-%d %H:%M:%S} UTC: features {self.features_rows:,} rows, "
            f"errors {self.errors_rows:,} rows; readers see it as version {self.version}"
        )


def rollback(
    output: str | PathLike[str], number: int, stores: Stores = (), table: str = ""
) -> Rollback:
    """Restore both tables of a pair to what they were at version ``number`` of features.

    A rollback is a new commit: it deletes nothing, and another rollback undoes it. An unfinished
    run becomes ``superseded``. After a crash between the two commits, call it again: it does the
    second one.

    Args:
        output: Folder or URL of the tables.
        number: Version of the features table.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Returns:
        The row counts and the version that readers see now.

    Raises:
        UserError: No run has published there, or there is no such version.
        Refused: Parts of that version have been deleted, or another writer was faster.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    tables = Tables.published(storage, table)
    features, errors = tables.features, tables.errors
    versions = versions_of(features.history())
    target = next((version for version in versions if version.number == number), None)
    if target is None:
        option = f" --table {table}" if table else ""
        raise UserError(
            f"no version {number} of {features.name} in {output}: there are "
            f"{versions[-1].number} to {versions[0].number} (see 'image-features history "
            f"{output}{option}')"
        )
    goals = [(features, number), (errors, _errors_version(errors, versions, number))]
    for own, version in goals:
        _check_parts(own, version)
    goals = [(own, version) for own, version in goals if _paths(own) != _paths(own.at(version))]
    run = unfinished_run(storage) if goals else None
    run_id = new_run_id(storage)
    with announce_commit(
        storage, [own.key(path) for own, version in goals for path in _paths(own.at(version))]
    ):
        if run:
            supersede(run, storage)
        for own, version in goals:
            own.restore(version, run_id)
    rows = [sum(part["num_records"] for part in own.parts) for own in tables]
    return Rollback(output, number, target.time, rows[0], rows[1], features.version)


def _errors_version(errors: Table, versions: Sequence[Version], number: int) -> int:
    """Return the version of the errors table that belongs to version ``number`` of features.

    It is the newest version that one of the runs up to ``number`` wrote. Compactions and repairs
    that follow it directly count too: vacuum may have deleted the parts from before a compaction,
    and those from before a repair are damaged.
    """
    runs = {version.run_id for version in versions if version.number <= number and version.change}
    found: int | None = None
    for version in reversed(versions_of(errors.history())):
        same_runs = version.change and version.change.operation in ("compact", "repair")
        if version.run_id in runs or (same_runs and found == version.number - 1):
            found = version.number
    if found is None:
        raise Refused(
            f"the errors table of {errors.url} has no version of that time any more; nothing was "
            "done. Roll back to a newer version."
        )
    return found


def _check_parts(table: Table, version: int) -> None:
    """Raise ``Refused`` when a part of a version is missing or has another size."""
    gone = table.at(version).lost_parts()
    if gone:
        raise Refused(
            f"version {version} of {table.url} needs {len(gone)} parts that are not there any more "
            f"({gone[0]} is the first), or not whole, as after vacuum or damage; nothing was done. "
            "Roll back to a newer version; if the newest version is damaged too, 'image-features "
            "repair OUTPUT' repairs it."
        )


def _paths(table: Table) -> set[str]:
    """Return the paths of a table's parts."""
    return {part["path"] for part in table.parts}
