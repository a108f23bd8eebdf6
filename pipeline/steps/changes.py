"""Compare the listing with the tables, one range of URIs at a time; count the changes."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.state.summary import Summary
from pipeline.steps.listing import Listing
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
from transforms.storage import Storage

# Rows of the listing and the tables that are compared at once: 1 to 2 GB.
RANGE_ROWS = 2_000_000
_LOG = logging.getLogger(__name__)


def find_changes(
    listing: Listing, pairs: Sequence[Tables], policy: PlanPolicy
) -> Iterator[tuple[Changes, ...]]:
    """Compare the listing with the tables, one range of URIs at a time to limit memory.

    Args:
        listing: The images of the inputs.
        pairs: The tables of each backbone.
        policy: Which images to do again, and which rows to keep.

    Yields:
        The changes of each range for each pair, in the order of the URIs.

    Raises:
        Damaged: A table cannot be read, and the run does not replace it.
    """
    columns = ["uri", "etag", "size"]
    carried = ["content_sha256", "source_hash"] if policy.carry else []
    tables = itertools.chain.from_iterable(pairs)
    row_counts = itertools.chain(listing.row_counts(), *(table.row_counts() for table in tables))
    for within in ranges(row_counts, RANGE_ROWS):
        listed = listing.read(within)
        changes = []
        for pair in pairs:
            known = _rows(pair.features, [*columns, *carried], within, policy)
            failed = _rows(pair.errors, [*columns, "kind"], within, policy)
            changes.append(compare(listed, known, failed, policy))
        yield tuple(changes)


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
    """Adds up the changes of all ranges for one backbone.

    Without an output, for a dry run, the plan only counts. A run that replaces whole tables does
    not write the URIs of stale rows.
    """

    def __init__(self, output: Storage | None, run_folder: str, replace_all: bool = False) -> None:
        self.counts = Counts()
        self.todo = 0  # images
        self.stale: Counter[str] = Counter()  # rows to delete, by table
        self.kept: Counter[str] = Counter()  # unlisted rows to keep, by table
        self.sizes = pa.array([], pa.int64())  # distinct sizes of the images to do
        self._stale_uris: dict[str, list[pa.Array]] = {"features": [], "errors": []}
        self._output = output
        self._folder = run_folder
        self._replace_all = replace_all

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
        self.todo += len(sizes)
        self.sizes = pc.unique(pa.concat_arrays([self.sizes, sizes]))

    def finish(self) -> None:
        """Write the URIs of the rows to delete, for each table."""
        for name, uris in self._stale_uris.items():
            if self._output and sum(map(len, uris)):
                rows = pa.table({"uri": pa.chunked_array(uris)})
                self._output.write(f"{self._folder}/stale/{name}.parquet", parquet.encode(rows))


def summarise(run_id: str, plan: Plan, listing: Listing, config: Config, name: str) -> Summary:
    """Return the summary of a plan, and log its counts.

    Args:
        run_id: Id of the run.
        plan: The finished plan.
        listing: The images of the inputs.
        config: The options of the run.
        name: Name of the features table for the log; "" where there is only one.
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
        table=config.table,
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
        "%slisted %s images (%s other files ignored): %s new, %s changed, %s to retry, %s "
        "unchanged, %s to remove",
        f"{name}: " if name else "",
        *(f"{count:,}" for count in (*said, summary.removed)),
    )
    return summary


def read_stale(output: Storage, run_folder: str, table: str) -> pa.Array:
    """Return the URIs of a table's stale rows, as ``Plan.finish`` wrote them.

    Args:
        output: The output.
        run_folder: Folder of the run in the output.
        table: ``features`` or ``errors``.
    """
    data = output.read(f"{run_folder}/stale/{table}.parquet")
    return parquet.read(data)["uri"].combine_chunks()
