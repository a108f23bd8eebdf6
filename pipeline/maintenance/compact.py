"""Compact: merge the small parts of the tables."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from os import PathLike, fspath

from pipeline.maintenance.announce import announce_commit
from pipeline.state.run import new_run_id, unfinished_run
from pipeline.tables import Tables
from pipeline.tables.commit import Commit
from pipeline.tables.table import Table
from transforms.errors import Refused
from transforms.parts.compact import SmallPart, group_parts, is_small, merge_parts
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# A night adds one or a few small parts, so a table reaches this limit about once a month. Each part
# costs a reader a few milliseconds to open, in a bucket tens of them: 64 parts cost seconds.
MAX_SMALL_PARTS = 64


@dataclass(frozen=True, slots=True)
class Compaction:
    """The result of merging the small parts of one table."""

    table: str
    merged: int  # parts before
    into: int  # parts afterwards
    version: int

    def __str__(self) -> str:
        return (
            f"merged {self.merged:,} small parts of {self.table} into {self.into:,}: "
            f"version {self.version}"
        )


def compact(
    output: str | PathLike[str], max_small: int = 1, stores: Stores = (), table: str = ""
) -> list[Compaction]:
    """Merge the small parts of each table that has too many, in one commit per table.

    Rows, vectors and earlier versions stay. ``vacuum`` deletes the old parts later.

    Args:
        output: Folder or URL of the tables.
        max_small: Leave a table alone that has no more small parts than this.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Returns:
        One result for each table that changed.

    Raises:
        UserError: No run has published there.
        Refused: A run is not finished, and would have to start over on the new version; or another
            writer was faster.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    pair = Tables.published(storage, table)
    tables = [own for own in pair if len(_small_parts(own)) > max_small]
    run = unfinished_run(storage) if tables else None
    if run:
        raise Refused(
            f"run {run.run_id} in {output} is not finished, and merging parts would make it start "
            "over; nothing was done. Wait for it, or run its command again, and then this one."
        )
    run_id = new_run_id(storage)
    done = [_compact(own, run_id, storage) for own in tables]
    return [compaction for compaction in done if compaction]


def compact_if_needed(output: str, stores: Stores = (), table: str = "") -> list[Compaction]:
    """Merge small parts after a run, in tables that have more than ``MAX_SMALL_PARTS``.

    An error is logged and not raised: the run has published already.

    Args:
        output: Folder or URL of the tables.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Returns:
        One result for each table that changed; none after an error.
    """
    try:
        done = compact(output, MAX_SMALL_PARTS, stores, table)
    except Exception as error:
        # Catch any error: the tables are as the run left them.
        cause = str(error).rstrip(".")
        _LOG.warning(
            "small parts were not merged: %s. 'image-features compact %s' tries again.",
            cause,
            f"{output} --table {table}" if table else output,
        )
        return []
    for compaction in done:
        _LOG.info("%s", compaction)
    return done


def _small_parts(table: Table) -> list[SmallPart]:
    """Return the parts of a table that are small enough to merge."""
    parts = [part for part in table.parts if is_small(part["size_bytes"])]
    return [
        SmallPart(part["path"], part["size_bytes"], part.get("min.uri") or "") for part in parts
    ]


def _compact(table: Table, run_id: str, output: Storage) -> Compaction | None:
    """Merge the small parts of one table; return None when none fit together."""
    groups = group_parts(_small_parts(table))
    if not groups:
        return None
    merged = [merge_parts(table.storage, group, run_id) for group in groups]
    old = [path for group in groups for path in group]
    with announce_commit(output, [table.key(part.path) for part in merged]):
        version = table.commit(Commit(run_id, merged, old, operation="compact"))
    return Compaction(table.name, len(old), len(merged), version)
