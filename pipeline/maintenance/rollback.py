"""Earlier versions of an output: list them, and go back to one."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.maintenance.announce import bringing
from pipeline.reports.text import format_table
from pipeline.state.run import new_run_id, unfinished_run
from pipeline.tables import Tables
from pipeline.tables.history import Version, versions_of
from pipeline.tables.table import Table
from transforms.errors import Refused, UserError
from transforms.storage import open_storage
from transforms.storage.settings import Stores


def history(output: str, stores: Stores = ()) -> str:
    """The versions of the features table, newest first: when, what, by which run, and what it did to the rows."""
    features = Tables.published(open_storage(output, stores)).features
    rows = [("version", "time (UTC)", "operation", "run", "rows", "added", "removed")]
    return format_table(rows + [_history_row(version) for version in versions_of(features.history())])


def _history_row(version: Version) -> tuple[str, ...]:
    change = version.change
    if change is None:
        what, counts = f"{version.delta_operation} (another writer)", ["?", "?", "?"]
    else:
        what = change.operation if change.restored is None else f"rollback to {change.restored}"
        counts = [f"{count:,}" for count in (change.rows, change.added, change.removed)]
    return str(version.number), f"{version.time:%Y-%m-%d %H:%M:%S}", what, version.run_id, *counts


def rollback(output: str, number: int, stores: Stores = ()) -> str:
    """Make both tables what they were at version ``number`` of features; returns one line that says so.

    It is a commit on top: nothing is deleted, and it can be undone in the same way. A run that was broken off is
    given up. Called again after a crash between its two commits, it does the second. Raises ``UserError`` for a
    version that there is not, ``Refused`` when parts of it have been deleted or another writer was faster.
    """
    storage = open_storage(output, stores)
    tables = Tables.published(storage)
    features, errors = tables.features, tables.errors
    versions = versions_of(features.history())
    target = next((version for version in versions if version.number == number), None)
    if target is None:
        raise UserError(
            f"no version {number} of features in {output}: there are {versions[-1].number} to {versions[0].number} "
            f"(see 'image-features history {output}')"
        )
    goals = [(features, number), (errors, _errors_version(errors, versions, number))]
    for table, version in goals:
        _check_parts(table, version)
    goals = [(table, version) for table, version in goals if _paths(table) != _paths(table.at(version))]
    run = unfinished_run(storage) if goals else None
    run_id = new_run_id(storage)
    with bringing(storage, [table.key(path) for table, version in goals for path in _paths(table.at(version))]):
        if run:
            run.end(storage, "superseded")
        for table, version in goals:
            table.restore(version, run_id)
    rows = [sum(part["num_records"] for part in table.parts) for table in tables]
    return (
        f"rolled back {output} to version {number} of {target.time:%Y-%m-%d %H:%M:%S} UTC: features {rows[0]:,} rows, "
        f"errors {rows[1]:,} rows; readers see it as version {features.version}"
    )


def _errors_version(errors: Table, versions: Sequence[Version], number: int) -> int:
    """The errors table's version that belongs to version ``number`` of features.

    It is the newest that was written by one of the runs up to there, or by compactions and repairs of that one:
    the parts of one from before a compaction may have been deleted, and those from before a repair are damaged.
    """
    runs = {version.run_id for version in versions if version.number <= number and version.change}
    found: int | None = None
    for version in reversed(versions_of(errors.history())):
        same_runs = version.change and version.change.operation in ("compact", "repair")
        if version.run_id in runs or (same_runs and found == version.number - 1):
            found = version.number
    if found is None:
        raise Refused(
            f"the errors table of {errors.url} has no version of that time any more; nothing was done. "
            "Go back less far."
        )
    return found


def _check_parts(table: Table, version: int) -> None:
    gone = table.at(version).lost_parts()
    if gone:
        raise Refused(
            f"version {version} of {table.url} needs {len(gone)} parts that are not there any more ({gone[0]} is the "
            "first), or not whole, as after vacuum or damage; nothing was done. Go back less far; where the newest "
            "version is damaged too, 'image-features repair OUTPUT' mends it."
        )


def _paths(table: Table) -> set[str]:
    return {part["path"] for part in table.parts}
