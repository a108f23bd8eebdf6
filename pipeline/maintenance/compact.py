"""Compact: merge the small parts of the tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.maintenance.announce import bringing
from pipeline.state.run import new_run_id, unfinished_run
from pipeline.tables import Tables
from pipeline.tables.table import Commit, Table, TableName
from transforms.errors import Refused
from transforms.parts.compact import SmallPart, group_parts, is_small, merge_parts
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# A night adds one to a few small parts, so this is reached about once a month. Opening one more
# part costs a reader some milliseconds, in a bucket tens of them: 64 are seconds.
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


def compact(output: str, most_small: int = 1, stores: Stores = ()) -> list[Compaction]:
    """Merge the small parts of each table that has more than ``most_small`` of them, in one commit a table.

    Rows, vectors and earlier versions stay; ``vacuum`` deletes the old parts in the end. Raises
    ``Refused`` when a run is not finished (it would have to start anew on the new version), or when
    another writer was faster.
    """
    storage = open_storage(output, stores)
    tables = [table for table in Tables.published(storage) if len(_small_parts(table)) > most_small]
    run = unfinished_run(storage) if tables else None
    if run:
        raise Refused(
            f"run {run.run_id} in {output} is not finished, and merging parts would make it start "
            "anew; nothing was done. Wait for it, or run its command again, and then this one."
        )
    run_id = new_run_id(storage)
    done = [_compact(table, run_id, storage) for table in tables]
    return [compaction for compaction in done if compaction]


def compact_if_needed(output: str, stores: Stores = ()) -> list[Compaction]:
    """The same after a run, for a table with many small parts.

    Never fails the run: it has published.
    """
    try:
        done = compact(output, MOST_SMALL_PARTS, stores)
    except Exception as error:
        # Whatever it is: the tables are as the run left them
        cause = str(error).rstrip(".")
        _LOG.warning(
            "small parts were not merged: %s. 'image-features compact %s' tries again.",
            cause,
            output,
        )
        return []
    for compaction in done:
        _LOG.info("%s", compaction)
    return done


def _small_parts(table: Table) -> list[SmallPart]:
    parts = [part for part in table.parts if is_small(part["size_bytes"])]
    return [
        SmallPart(part["path"], part["size_bytes"], part.get("min.uri") or "") for part in parts
    ]


def _compact(table: Table, run_id: str, output: Storage) -> Compaction | None:
    groups = group_parts(_small_parts(table))
    if not groups:
        return None
    merged = [merge_parts(table.storage, group, run_id) for group in groups]
    old = [path for group in groups for path in group]
    with bringing(output, [table.key(part.path) for part in merged]):
        version = table.commit(Commit(run_id, merged, old, operation="compact"))
    return Compaction(table.name, len(old), len(merged), version)
