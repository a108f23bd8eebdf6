"""Compare the listing with the tables, one range of URIs at a time; write shards and counts."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.state.summary import Summary
from pipeline.steps.listing import Listing, name_containers
from pipeline.tables import Table, Tables
from pipeline.tables.snapshot import no_rows
from transforms import parquet
from transforms.errors import Damaged
from transforms.plan import (
    Changes,
    Counts,
    PlanPolicy,
    Range,
    compare,
    ranges,
)
from transforms.records import CARRIED
from transforms.shards import ShardPolicy, in_reading_order, shard_bounds, stream_starts
from transforms.storage import Storage
from transforms.storage.urls import scheme_of

# Rows of the listing and the tables that are compared at once: 1 to 2 GB.
RANGE_ROWS = 2_000_000
# Concurrent requests to the storage: a bucket takes some 40 ms for each shard.
_REQUESTS = 32
_LOG = logging.getLogger(__name__)


def find_changes(listing: Listing, tables: Tables, policy: PlanPolicy) -> Iterator[Changes]:
    """Compare the listing with the tables, one range of URIs at a time to limit memory.

    Args:
        listing: The images of the inputs.
        tables: The tables of the output.
        policy: Which images to do again, and which rows to keep.

    Yields:
        The changes of each range, in the order of the URIs.

    Raises:
        Damaged: A table cannot be read, and the run does not replace it.
    """
    columns = ["uri", "etag", "size"]
    features, errors = tables.features, tables.errors
    carried = ["content_sha256", "source_hash"] if policy.carry else []
    row_counts = itertools.chain(listing.row_counts(), features.row_counts(), errors.row_counts())
    for within in ranges(row_counts, RANGE_ROWS):
        known = _rows(features, [*columns, *carried], within, policy)
        failed = _rows(errors, [*columns, "kind"], within, policy)
        yield compare(listing.read(within), known, failed, policy)


def _rows(table: Table, columns: list[str], within: Range, policy: PlanPolicy) -> pa.Table:
    """Read a table's rows in a range; none when the table is damaged and is replaced anyway."""
    there = [name for name in columns if name not in CARRIED or table.carried]
    try:
        rows = table.read_range(there, within)
    except Damaged as error:
        if not policy.rebuild:
            raise
        _LOG.warning(
            "%s; --rebuild replaces it, and counts no image as removed from there", error.what
        )
        return no_rows(columns)
    for name in columns[len(there) :]:
        # No run has carried anything yet.
        rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.int64()))
    return rows


class Plan:
    """Adds up the changes of all ranges, and writes the images to do as shards.

    A shard is a Parquet file of image references. Without an output, for a dry run, the plan only
    counts. A run that replaces whole tables does not write the URIs of stale rows.
    """

    def __init__(
        self,
        output: Storage | None,
        run_folder: str,
        policy: ShardPolicy,
        replace_all: bool = False,
    ) -> None:
        self.counts = Counts()
        self.todo = 0  # images
        self.todo_bytes = 0  # of those whose size is known
        self.remote = False  # whether the images are in a bucket
        self.shards: list[str] = []
        self.stale: Counter[str] = Counter()  # rows to delete, by table
        self.kept: Counter[str] = Counter()  # unlisted rows to keep, by table
        self.sizes = pa.array([], pa.int64())  # distinct sizes of the images to do
        self._stale_uris: dict[str, list[pa.Array]] = {"features": [], "errors": []}
        self._output = output
        self._folder = run_folder
        self._policy = policy
        self._replace_all = replace_all
        self._pending: list[pa.Table] = []

    @property
    def nothing_to_do(self) -> bool:
        """Whether the run would change nothing in the tables."""
        return not (self.todo or self.stale.total())

    def add(self, changes: Changes) -> None:
        """Add the changes of the next range."""
        self.counts += changes.counts
        for name, stale in (("features", changes.features), ("errors", changes.errors)):
            self.stale[name] += len(stale.uris)
            self.kept[name] += stale.kept
            if self._output and not self._replace_all:
                self._stale_uris[name].append(stale.uris)
        sizes = changes.todo["size"].combine_chunks()
        if len(sizes) and not self.todo:
            self.remote = scheme_of(changes.todo["uri"][0].as_py()) not in ("", "file")
        self.todo += len(sizes)
        self.todo_bytes += pc.sum(pc.max_element_wise(sizes, 0)).as_py() or 0
        self.sizes = pc.unique(pa.concat_arrays([self.sizes, sizes]))
        self._pending.append(changes.todo)
        if sum(table.num_rows for table in self._pending) >= RANGE_ROWS // 2:
            self._cut()

    def finish(self) -> None:
        """Write the last shards, and for each table the URIs of the rows to delete."""
        self._cut()
        for name, uris in self._stale_uris.items():
            if self._output and sum(map(len, uris)):
                _write(
                    self._output,
                    f"{self._folder}/stale/{name}.parquet",
                    pa.table({"uri": pa.chunked_array(uris)}),
                )

    def _cut(self) -> None:
        """Write the pending images as shards.

        The first call makes enough shards for all workers; later calls make full ones.
        """
        if not self._pending:
            return
        todo = in_reading_order(pa.concat_tables(self._pending))
        self._pending = []
        policy = replace(self._policy, workers=0) if self.shards else self._policy
        bounds = shard_bounds(todo["size"].to_numpy(), policy, stream_starts(todo))
        names = [
            f"shard-{number:05d}"
            for number in range(len(self.shards), len(self.shards) + len(bounds))
        ]
        self.shards += names
        if self._output:
            keys = [f"{self._folder}/plan/{name}.parquet" for name in names]
            pieces = [todo.slice(start, length) for start, length in bounds]
            with ThreadPoolExecutor(_REQUESTS) as pool:
                list(pool.map(_write, itertools.repeat(self._output), keys, pieces))


def summarise(run_id: str, plan: Plan, listing: Listing, config: Config) -> Summary:
    """Return the summary of a plan, and log its counts.

    Args:
        run_id: Id of the run.
        plan: The finished plan.
        listing: The images of the inputs.
        config: The options of the run.
    """
    counts = plan.counts
    summary = Summary(
        run_id=run_id,
        listed=counts.listed,
        new=counts.new,
        changed=counts.changed,
        updated=counts.updated,
        unchanged=counts.unchanged,
        retried=counts.retried,
        still_failed=counts.still_failed,
        removed=0 if config.keep_removed else counts.gone,
        kept=counts.gone if config.keep_removed else 0,
        ignored=listing.ignored,
        todo=plan.todo,
    )
    said = (
        summary.listed,
        summary.ignored,
        summary.new,
        summary.changed,
        summary.retried,
        summary.unchanged,
    )
    _LOG.info(
        "listed %s images (%s other files ignored): %s new, %s changed, %s to retry, %s "
        "unchanged, %s to remove",
        *(f"{count:,}" for count in (*said, summary.removed)),
    )
    if listing.containers:
        _LOG.warning("%s", name_containers(listing.containers))
    return summary


def read_stale(output: Storage, run_folder: str, table: str) -> pa.Array:
    """Return the URIs of a table's stale rows, as ``Plan.finish`` wrote them.

    Args:
        output: The output.
        run_folder: Folder of the run in the output.
        table: Name of the table.
    """
    data = output.read(f"{run_folder}/stale/{table}.parquet")
    return parquet.read(data)["uri"].combine_chunks()


def _write(output: Storage, key: str, table: pa.Table) -> None:
    output.write(key, parquet.encode(table))
