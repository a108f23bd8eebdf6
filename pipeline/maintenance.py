"""What keeps an output in shape between runs: merge small parts, look at versions, go back to one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.announce import bringing
from pipeline.runs import new_run_id, unfinished_run
from pipeline.show import format_table
from pipeline.tables import TABLES, Commit, Table, TableName
from pipeline.versions import Version, versions_of
from transforms.compact import SmallPart, group_parts, is_small, merge_parts
from transforms.errors import Refused, UserError
from transforms.records import ERRORS_SCHEMA, features_schema
from transforms.storage import Storage, open_storage

_LOG = logging.getLogger(__name__)
# A night adds one to a few small parts, so this is reached about once a month. Opening one more part costs a reader
# some milliseconds, in a bucket tens of them: 64 are seconds.
MOST_SMALL_PARTS = 64


@dataclass(frozen=True, slots=True)
class Compaction:
    """What merging did to one table."""

    table: TableName
    merged: int  # parts before
    into: int  # parts afterwards
    version: int

    def __str__(self) -> str:
        return f"merged {self.merged:,} small parts of {self.table} into {self.into:,}: version {self.version}"


def open_tables(output: str) -> tuple[Table, Table]:
    """Features and errors of an output. Raises ``UserError`` when no run has published there."""
    features, errors = (Table(output, name) for name in TABLES)
    if features.version is None:
        raise UserError(f"nothing in {output}: no run has published there")
    return features, errors


def compact(output: str, most_small: int = 1) -> list[Compaction]:
    """Merge the small parts of each table that has more than ``most_small`` of them, in one commit a table.

    Rows, vectors and earlier versions stay; ``vacuum`` deletes the old parts in the end. Raises ``Refused`` when a
    run is not finished (it would have to start anew on the new version), or when another writer was faster.
    """
    tables = [table for table in open_tables(output) if len(_small_parts(table)) > most_small]
    storage = open_storage(output)
    run = unfinished_run(storage) if tables else None
    if run:
        raise Refused(
            f"run {run.run_id} in {output} is not finished, and merging parts would make it start anew; nothing was "
            "done. Wait for it, or run its command again, and then this one."
        )
    run_id = new_run_id(storage)
    done = [_compact(table, run_id, storage) for table in tables]
    return [compaction for compaction in done if compaction]


def compact_if_needed(output: str) -> list[Compaction]:
    """The same after a run, for a table with many small parts. Never fails the run: it has published."""
    try:
        done = compact(output, MOST_SMALL_PARTS)
    except Exception as error:  # whatever it is: the tables are as the run left them
        cause = str(error).rstrip(".")
        _LOG.warning("small parts were not merged: %s. 'image-features compact %s' tries again.", cause, output)
        return []
    for compaction in done:
        _LOG.info("%s", compaction)
    return done


def _small_parts(table: Table) -> list[SmallPart]:
    parts = [part for part in table.parts if is_small(part["size_bytes"])]
    return [SmallPart(part["path"], part["size_bytes"], part.get("min.uri") or "") for part in parts]


def _compact(table: Table, run_id: str, output: Storage) -> Compaction | None:
    groups = group_parts(_small_parts(table))
    if not groups:
        return None
    storage = open_storage(table.url)
    merged = [merge_parts(storage, group, run_id) for group in groups]
    old = [path for group in groups for path in group]
    schema = ERRORS_SCHEMA if table.name == "errors" else features_schema(dimension=1)
    with bringing(output, [f"{table.name}/{part.path}" for part in merged]):
        version = table.commit(Commit(run_id, schema, merged, old, operation="compact"))
    return Compaction(table.name, len(old), len(merged), version)


def history(output: str) -> str:
    """The versions of the features table, newest first: when, what, by which run, and what it did to the rows."""
    features, _ = open_tables(output)
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


def rollback(output: str, number: int) -> str:
    """Make both tables what they were at version ``number`` of features; returns one line that says so.

    It is a commit on top: nothing is deleted, and it can be undone in the same way. A run that was broken off is
    given up. Called again after a crash between its two commits, it does the second. Raises ``UserError`` for a
    version that there is not, ``Refused`` when parts of it have been deleted or another writer was faster.
    """
    features, errors = open_tables(output)
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
    storage = open_storage(output)
    run = unfinished_run(storage) if goals else None
    run_id = new_run_id(storage)
    with bringing(storage, [f"{table.name}/{path}" for table, version in goals for path in _paths(table.at(version))]):
        if run:
            run.end(storage, "superseded")
        for table, version in goals:
            table.restore(version, run_id)
    rows = [sum(part["num_records"] for part in table.parts) for table in (features, errors)]
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
