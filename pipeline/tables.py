"""The two Delta tables of an output, features and errors: what they hold, and how a run is committed.

Delta (``deltalake``, https://delta.io) gives atomic commits of many files with conditional puts, on local disk
and on object stores, without a server; see docs/decisions/0001-shards-and-delta.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, Literal

import pyarrow as pa

from pipeline.delta import add_action, count_missing, delta_url, one_line, read_delta, remove_action, row_ids
from pipeline.log import check_newest_entry, make_durable
from pipeline.versions import Change, Operation
from transforms.errors import Damaged, Refused, RunFailed
from transforms.plan import Range
from transforms.recipe import Recipe
from transforms.retries import broke_off, wait_before
from transforms.storage import open_storage, storage_options
from transforms.write import BOUNDED, Part, read_part, read_recipe

_LOG = logging.getLogger(__name__)
# Without it deltalake takes the bounds of all other columns for null, and a reader's filter on them finds nothing.
_CONFIGURATION = {"delta.dataSkippingStatsColumns": ",".join(BOUNDED)}
TableName = Literal["features", "errors"]
TABLES: tuple[TableName, ...] = ("features", "errors")
_ROW = ("uri", "run_id")
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
        self._delta_url = delta_url(self.url)
        self._delta = self._open()

    def _open(self) -> Any:
        if next(iter(self._storage.list("_delta_log")), None) is None:  # our own look first: its errors are one line
            return None
        from deltalake import DeltaTable

        check_newest_entry(self.url)
        return read_delta(self.url, lambda: DeltaTable(self._delta_url, storage_options=self._options))

    @property
    def version(self) -> int | None:
        """The version that readers see, or None."""
        return self._delta.version() if self._delta else None

    @property
    def parts(self) -> list[dict[str, Any]]:
        """``path``, ``size_bytes``, ``num_records`` and statistics of the parts, as Delta's log has them."""
        parts: list[dict[str, Any]] = self._add_actions().to_pylist()
        return parts

    def lost_parts(self) -> list[str]:
        """The paths of the parts that are not there, or have another size than the log says."""
        there = {(entry.key, entry.size) for entry in self._storage.list()}
        return sorted(part["path"] for part in self.parts if (part["path"], part["size_bytes"]) not in there)

    def has_run(self, run_id: str) -> bool:
        """Whether this run is committed already."""
        return bool(self._delta) and _has_run(self._delta, self.url, run_id)

    def at(self, version: int) -> Table:
        """The same table as an earlier version had it; for reading only."""
        from deltalake import DeltaTable

        table = Table(self._output, self.name)
        table._delta = read_delta(
            self.url, lambda: DeltaTable(self._delta_url, version=version, storage_options=self._options)
        )
        return table

    def history(self) -> list[dict[str, Any]]:
        """Delta's history, newest first."""
        return read_delta(self.url, lambda: list(self._delta.history())) if self._delta else []

    def recipe(self) -> Recipe | None:
        """The recipe of the rows, from the metadata of a part; None for a table without parts.

        Raises ``Damaged`` when that part is not sound.
        """
        parts = self.parts
        return read_recipe(read_part(self._storage, parts[0]["path"])) if parts else None

    def read(self, columns: Sequence[str], where: Any = None, most: int | None = None) -> pa.Table:
        """Some columns of all rows, or of those ``where`` an Arrow expression is true; any ``most`` of them.

        ``__filename`` gives the path of each row's part. Raises ``Damaged`` when a part cannot be read.
        """
        if self._delta is None:
            return no_rows(columns)

        def read() -> pa.Table:
            dataset = self._delta.to_pyarrow_dataset()
            if most is not None and most < sum(rows for _, rows in self.spread()):
                return dataset.head(most, columns=list(columns), filter=where)
            return dataset.to_table(columns=list(columns), filter=where)

        return self._rows(read)

    def _rows(self, read: Callable[[], pa.Table]) -> pa.Table:
        try:
            return read_delta(self.url, read)
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"the table {self.url} cannot be read: {one_line(error)}") from error

    def read_range(self, columns: Sequence[str], within: Range) -> pa.Table:
        """Some columns of the rows whose uri lies in a range; looks only at parts that may hold such."""
        if self._delta is None or within == Range():
            return self.read(columns)
        uri = pa.compute.field("uri")
        where = uri >= within.low
        bounds = [("uri", ">=", within.low)] if within.low else []  # to Delta "" is null, and nothing is more than that
        if within.high is not None:
            bounds, where = [*bounds, ("uri", "<", within.high)], where & (uri < within.high)

        def read() -> pa.Table:
            dataset = self._delta.to_pyarrow_dataset(file_pruning_predicate=bounds)
            return dataset.to_table(columns=list(columns), filter=where)

        return self._rows(read)

    def spread(self) -> list[tuple[str, int]]:
        """The least uri of each part, and the part's rows."""
        parts = self._add_actions()
        if not parts.num_rows:
            return []
        return list(zip(parts["min.uri"].to_pylist(), parts["num_records"].to_pylist(), strict=True))

    def _add_actions(self) -> pa.Table:
        """The parts of this version, as Delta's log has them."""
        if self._delta is None:
            return pa.table({})
        return pa.table(read_delta(self.url, lambda: self._delta.get_add_actions(flatten=True)))

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
        from deltalake.transaction import create_table_with_add_actions

        if self.has_run(commit.run_id):
            return int(self._delta.version())
        schema = Schema.from_arrow(commit.schema)
        properties = CommitProperties(
            custom_metadata={"run_id": commit.run_id, "change": self._change(commit)},
            max_commit_retries=0,
            app_transactions=[Transaction(commit.run_id, 1)],
        )
        fresh = commit.operation != "compact"
        adds = [add_action(part, fresh) for part in commit.add]
        gone = [] if commit.replace_all else [part for part in self.parts if part["path"] in commit.remove]

        def write() -> None:
            if self._delta is None:
                create_table_with_add_actions(
                    self._delta_url, schema, adds, mode="error", configuration=_CONFIGURATION,
                    storage_options=self._options, commit_properties=properties,
                )  # fmt: skip
            else:
                removes = [remove_action(part, fresh) for part in gone]
                mode = "overwrite" if commit.replace_all else "append"
                self._delta.create_write_transaction(adds + removes, mode, schema, commit_properties=properties)

        return self._transact(commit.run_id, write)

    def restore(self, version: int, run_id: str) -> int:
        """Commit an earlier version's parts on top of the version that was opened; returns the new version.

        Raises ``Refused`` when another writer was faster.
        """
        from deltalake import CommitProperties, Transaction

        change = Change("rollback", *self._difference(self.at(version)), restored=version)
        properties = CommitProperties(
            custom_metadata={"run_id": run_id, "change": asdict(change)},
            max_commit_retries=0,
            app_transactions=[Transaction(run_id, 1)],
        )
        return self._transact(run_id, lambda: self._delta.restore(version, commit_properties=properties))

    def _difference(self, goal: Table) -> tuple[int, int, int]:
        """The rows of ``goal``, those that it has more, and those that it lacks.

        Where this version cannot be read, all rows of a part that comes or goes count.
        """
        after = row_ids(goal.read(_ROW))
        try:
            before = row_ids(self.read(_ROW))
            return len(after), count_missing(after, before), count_missing(before, after)
        except Damaged:
            here, there = ({part["path"]: part["num_records"] for part in table.parts} for table in (self, goal))
            added = sum(there[path] for path in there.keys() - here.keys())
            return len(after), added, sum(here[path] for path in here.keys() - there.keys())

    def _transact(self, run_id: str, write: Callable[[], None]) -> int:
        """Write a commit, again where the exchange broke off and it was not done; returns the new version."""
        from deltalake.exceptions import DeltaError

        for attempt in count(1):
            try:
                write()
                break
            except (DeltaError, OSError) as error:
                if self._is_done(run_id, error):
                    break
                if not (broke_off(error) and wait_before(attempt)):
                    raise RunFailed(
                        f"cannot commit to {self.url}: {one_line(error)}. Nothing was published there. Run the same "
                        "command again: it takes up what is done."
                    ) from error
        self._delta = self._open()
        version = int(self._delta.version())
        make_durable(self.url, version)
        return version

    def _change(self, commit: Commit) -> dict[str, Any]:
        """What a commit does to the rows. A row of another run that it writes is one that it only moves."""
        known = {part["path"]: part["num_records"] for part in self.parts}
        fresh = sum(part.rows for part in commit.add if part.minimum["run_id"] == commit.run_id)
        moved = sum(part.rows for part in commit.add) - fresh
        gone = sum(known.values()) if commit.replace_all else sum(known[path] for path in commit.remove)
        operation: Operation = "rebuild" if commit.replace_all else commit.operation
        return asdict(Change(operation, sum(known.values()) + fresh + moved - gone, fresh, gone - moved))

    def _is_done(self, run_id: str, error: Exception) -> bool:
        """Whether a failed commit of this run is there all the same. Raises ``Refused`` when another one is.

        It is when an answer was lost on its way, or when the same command is running twice and the other
        process, which works on the same run, was first.
        """
        current = self._open()
        if current and _has_run(current, self.url, run_id):
            _LOG.info(
                "run %s is in %s already: an answer was lost, or another process was at work on the same run",
                run_id,
                self.url,
            )
            return True
        if (current.version() if current else None) != self.version:
            raise Refused(
                f"another run published to {self.url} in the meantime; this one published nothing there. "
                "Run the same command again."
            ) from error
        return False


def _has_run(delta: Any, url: str, run_id: str) -> bool:
    return read_delta(url, lambda: delta.transaction_version(run_id)) is not None


def no_rows(columns: Sequence[str]) -> pa.Table:
    """Columns of a table without rows."""
    kinds = {name: pa.string() for name in columns} | {"size": pa.int64()}
    return pa.table({name: pa.array([], kinds[name]) for name in columns})
