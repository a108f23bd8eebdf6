"""The two Delta tables of an output, features and errors: what they hold, and how a run is committed.

Delta (``deltalake``, https://delta.io) gives atomic commits of many files with conditional puts, on local disk
and on object stores, without a server; see docs/decisions/0001-shards-and-delta.md.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from pipeline.versions import Change, Operation
from transforms.errors import Refused, RunFailed
from transforms.plan import Range
from transforms.recipe import Recipe
from transforms.storage import open_storage, storage_options
from transforms.write import BOUNDED, Part, read_recipe

_LOG = logging.getLogger(__name__)
# Without it deltalake takes the bounds of all other columns for null, and a reader's filter on them finds nothing.
_CONFIGURATION = {"delta.dataSkippingStatsColumns": ",".join(BOUNDED)}
TableName = Literal["features", "errors"]
_REWRITES = 4  # parts rewritten at once: each takes some 40 MB, and most of its time is compression without the GIL


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: parts that come and parts that go, in the name of a run."""

    run_id: str
    schema: pa.Schema
    add: Sequence[Part]
    remove: Sequence[str] = ()  # paths of parts
    replace_all: bool = False  # remove every part of the table
    operation: Operation = "extract"  # for the history; one that only moves rows is no change to Delta's readers


class Table:
    """One table as it was when it was opened; ``version`` is None when there is none yet."""

    def __init__(self, output: str, name: TableName) -> None:
        self.name = name
        self._output = output
        self._storage = open_storage(f"{output.rstrip('/')}/{name}")
        self.url = self._storage.url
        self._options = storage_options(self._storage.url)
        self._delta = self._open()

    def _open(self) -> Any:
        if next(iter(self._storage.list("_delta_log")), None) is None:  # our own look first: its errors are one line
            return None
        from deltalake import DeltaTable

        return DeltaTable(self.url, storage_options=self._options)

    @property
    def version(self) -> int | None:
        """The version that readers see, or None."""
        return self._delta.version() if self._delta else None

    @property
    def parts(self) -> list[dict[str, Any]]:
        """``path``, ``size_bytes``, ``num_records`` and statistics of the parts, as Delta's log has them."""
        return pa.table(self._delta.get_add_actions(flatten=True)).to_pylist() if self._delta else []

    def has_run(self, run_id: str) -> bool:
        """Whether this run is committed already."""
        return bool(self._delta) and self._delta.transaction_version(run_id) is not None

    def at(self, version: int) -> Table:
        """The same table as an earlier version had it; for reading only."""
        from deltalake import DeltaTable

        table = Table(self._output, self.name)
        table._delta = DeltaTable(self.url, version=version, storage_options=self._options)
        return table

    def history(self) -> list[dict[str, Any]]:
        """Delta's history, newest first."""
        return list(self._delta.history()) if self._delta else []

    def recipe(self) -> Recipe | None:
        """The recipe of the rows, from the metadata of a part; None for a table without parts."""
        parts = self.parts
        return read_recipe(self._storage.read(parts[0]["path"])) if parts else None

    def read(self, columns: Sequence[str], where: Any = None, most: int | None = None) -> pa.Table:
        """Some columns of all rows, or of those ``where`` an Arrow expression is true; any ``most`` of them.

        ``__filename`` gives the path of each row's part.
        """
        if self._delta is None:
            return _no_rows(columns)
        dataset = self._delta.to_pyarrow_dataset()
        if most is not None and most < sum(rows for _, rows in self.spread()):
            return dataset.head(most, columns=list(columns), filter=where)
        return dataset.to_table(columns=list(columns), filter=where)

    def read_range(self, columns: Sequence[str], within: Range) -> pa.Table:
        """Some columns of the rows whose uri lies in a range; looks only at parts that may hold such."""
        if self._delta is None or within == Range():
            return self.read(columns)
        uri = pa.compute.field("uri")
        where = uri >= within.low
        bounds = [("uri", ">=", within.low)] if within.low else []  # to Delta "" is null, and nothing is more than that
        if within.high is not None:
            bounds, where = [*bounds, ("uri", "<", within.high)], where & (uri < within.high)
        dataset = self._delta.to_pyarrow_dataset(file_pruning_predicate=bounds)
        return dataset.to_table(columns=list(columns), filter=where)

    def spread(self) -> list[tuple[str, int]]:
        """The least uri of each part, and the part's rows."""
        parts = pa.table(self._delta.get_add_actions(flatten=True)) if self._delta else pa.table({})
        if not parts.num_rows:
            return []
        return list(zip(parts["min.uri"].to_pylist(), parts["num_records"].to_pylist(), strict=True))

    def rewrite_without(self, uris: pa.Array, run_id: str, recipe: Recipe) -> tuple[list[Part], list[str]]:
        """Write the parts that hold rows of ``uris`` anew without them.

        Returns the new parts and the paths of the old ones, for the commit; changes nothing by itself.
        """
        from transforms.rewrite import rewrite_part

        known = self.read(["uri", "__filename"])
        stale = known.filter(pa.compute.is_in(known["uri"], value_set=uris))
        old = sorted({str(path).rsplit("/", 1)[-1] for path in stale["__filename"].unique().to_pylist()})
        with ThreadPoolExecutor(_REWRITES) as pool:
            new = list(pool.map(lambda path: rewrite_part(self._storage, path, uris, run_id, recipe), old))
        return [part for part in new if part is not None], old

    def commit(self, commit: Commit) -> int:
        """Commit atomically on top of the version that was opened; returns the new version.

        A second call for the same run does nothing. Raises ``Refused`` when another writer was faster.
        """
        from deltalake import CommitProperties, Schema, Transaction
        from deltalake.exceptions import DeltaError
        from deltalake.transaction import create_table_with_add_actions

        if self.has_run(commit.run_id):
            return int(self._delta.version())
        schema = Schema.from_arrow(commit.schema)
        properties = CommitProperties(
            custom_metadata={"run_id": commit.run_id, "change": self._change(commit)},
            max_commit_retries=0,
            app_transactions=[Transaction(commit.run_id, 1)],
        )
        adds = [_add_action(part, commit.operation != "compact") for part in commit.add]
        try:
            if self._delta is None:
                create_table_with_add_actions(
                    self.url, schema, adds, mode="error", configuration=_CONFIGURATION,
                    storage_options=self._options, commit_properties=properties,
                )  # fmt: skip
            else:
                removes = [] if commit.replace_all else self._removals(commit.remove, commit.operation != "compact")
                mode = "overwrite" if commit.replace_all else "append"
                self._delta.create_write_transaction(adds + removes, mode, schema, commit_properties=properties)
        except (DeltaError, OSError) as error:
            self._explain(commit.run_id, error)
        self._delta = self._open()
        return int(self._delta.version())

    def restore(self, version: int, run_id: str) -> int:
        """Commit an earlier version's parts on top of the version that was opened; returns the new version.

        Raises ``Refused`` when another writer was faster.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import DeltaError

        before, after = _row_ids(self), _row_ids(self.at(version))
        added, removed = _count_missing(after, before), _count_missing(before, after)
        change = Change("rollback", len(after), added, removed, restored=version)
        properties = CommitProperties(
            custom_metadata={"run_id": run_id, "change": asdict(change)},
            max_commit_retries=0,
            app_transactions=[Transaction(run_id, 1)],
        )
        try:
            self._delta.restore(version, commit_properties=properties)
        except (DeltaError, OSError) as error:
            self._explain(run_id, error)
        self._delta = self._open()
        return int(self._delta.version())

    def _change(self, commit: Commit) -> dict[str, Any]:
        """What a commit does to the rows. A row of another run that it writes is one that it only moves."""
        known = {part["path"]: part["num_records"] for part in self.parts}
        fresh = sum(part.rows for part in commit.add if part.minimum["run_id"] == commit.run_id)
        moved = sum(part.rows for part in commit.add) - fresh
        gone = sum(known.values()) if commit.replace_all else sum(known[path] for path in commit.remove)
        operation: Operation = "rebuild" if commit.replace_all else commit.operation
        return asdict(Change(operation, sum(known.values()) + fresh + moved - gone, fresh, gone - moved))

    def _explain(self, run_id: str, error: Exception) -> None:
        """Return if this run is committed all the same; raise what a failed commit means otherwise.

        It is when an answer was lost on its way, or when the same command is running twice and the other
        process, which works on the same run, was first.
        """
        current = self._open()
        if current and current.transaction_version(run_id) is not None:
            _LOG.info("run %s is in %s already: another process was at work on the same run", run_id, self.url)
            return
        if (current.version() if current else None) == self.version:
            text = " ".join(str(error).split())[:300]
            raise RunFailed(
                f"cannot commit to {self.url}: {text}. Nothing was published there. Run the same command again: it "
                "takes up what is done."
            ) from error
        raise Refused(
            f"another run published to {self.url} in the meantime; this one published nothing there. "
            "Run the same command again."
        ) from error

    def _removals(self, paths: Sequence[str], data_change: bool) -> list[Any]:
        from deltalake.transaction import RemoveAction

        sizes = {part["path"]: part["size_bytes"] for part in self.parts}
        now = time.time_ns() // 1_000_000
        return [RemoveAction(path, data_change, now, sizes[path], {}) for path in paths]


def _no_rows(columns: Sequence[str]) -> pa.Table:
    kinds = {name: pa.string() for name in columns} | {"size": pa.int64()}
    return pa.table({name: pa.array([], kinds[name]) for name in columns})


def _row_ids(table: Table) -> pa.Array:
    """What tells each row from those of all versions: its image, and the run that wrote it."""
    rows = table.read(["uri", "run_id"])
    return pa.compute.binary_join_element_wise(rows["uri"], rows["run_id"], " ").combine_chunks()


def _count_missing(rows: pa.Array, other: pa.Array) -> int:
    return len(rows) - int(pa.compute.sum(pa.compute.is_in(rows, value_set=other)).as_py() or 0)


def _add_action(part: Part, data_change: bool) -> Any:
    from deltalake.transaction import AddAction

    stats = {
        "numRecords": part.rows,
        "minValues": part.minimum,
        "maxValues": part.maximum,
        "nullCount": dict.fromkeys(part.minimum, 0),
    }
    return AddAction(part.path, part.size, {}, time.time_ns() // 1_000_000, data_change, json.dumps(stats))
