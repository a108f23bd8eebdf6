"""Read a Delta table of an output in the version that was current when it was opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import Any, Literal, Self, cast

import pyarrow as pa

from pipeline.tables.delta import delta_url, holds_run, one_line, only_parts, read_delta
from pipeline.tables.log import check_newest_entry
from transforms.carried_types import CarriedType, from_arrow
from transforms.errors import Damaged
from transforms.parts.write import read_part, read_recipe
from transforms.plan import Range
from transforms.recipe import Recipe
from transforms.records import CARRIED, ERRORS_SCHEMA, GROUPS_SCHEMA, features_schema
from transforms.storage import Storage

Kind = Literal["features", "errors", "duplicates"]


class Snapshot:
    """One table as it was when it was opened.

    Args:
        output: Folder of the tables.
        name: The table: its kind, with ``-NAME`` for a further backbone's.

    Raises:
        UserError: Delta cannot address the output.
        StorageError: The storage does not answer, or the log cannot be read.
    """

    def __init__(self, output: Storage, name: str) -> None:
        self.name = name
        self.storage = output.folder(name)
        self.url = self.storage.url
        self._output = output
        self._options = self.storage.delta_options
        self._delta_url = delta_url(self.url)
        self._delta = self._open()

    def _open(self) -> Any:
        """Open Delta's table in its newest version; return None when there is none."""
        # Check first: the errors of this check are one line.
        if not check_newest_entry(self.storage):
            return None
        from deltalake import DeltaTable

        return read_delta(
            self.url, lambda: DeltaTable(self._delta_url, storage_options=self._options)
        )

    @property
    def kind(self) -> Kind:
        """What the rows of the table are."""
        return cast(Kind, self.name.partition("-")[0])

    @property
    def pair(self) -> str:
        """The name of its pair of tables; "" for the first one."""
        return self.name.partition("-")[2]

    @property
    def version(self) -> int | None:
        """The version that was opened, or None when there was no table."""
        return self._delta.version() if self._delta else None

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts in Delta's log: ``path``, ``size_bytes``, ``num_records`` and statistics."""
        parts: list[dict[str, Any]] = self._add_actions().to_pylist()
        return parts

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file that lies in the table's folder, by its path."""
        return {entry.key: entry.size for entry in self.storage.list()}

    def lost_parts(self) -> list[str]:
        """Return the paths of parts that are missing or have another size than the log says."""
        there = {(entry.key, entry.size) for entry in self.storage.list()}
        return sorted(
            part["path"] for part in self.parts if (part["path"], part["size_bytes"]) not in there
        )

    def has_run(self, run_id: str) -> bool:
        """Tell whether this run is committed already."""
        return bool(self._delta) and holds_run(self._delta, self.url, run_id)

    def key(self, path: str) -> str:
        """Return the key of a part in the output."""
        return f"{self.name}/{path}"

    @property
    def schema(self) -> pa.Schema:
        """The schema of the table. Its dimension is 1: Delta's schema keeps no list lengths."""
        known = {"errors": ERRORS_SCHEMA, "duplicates": GROUPS_SCHEMA}
        return known.get(self.kind) or features_schema(dimension=1)

    @property
    def table_id(self) -> str:
        """Delta's id of the table, which a table that is made anew does not share."""
        return str(self._delta.metadata().id)

    @property
    def fingerprint(self) -> str:
        """A digest of the parts' paths, each of which is unique.

        A copy of a table, or a table that was restored from one, keeps Delta's id and goes on with
        the same numbers of versions. This tells such versions apart.
        """
        paths = sorted(self._add_actions()["path"].to_pylist()) if self._delta else []
        return hashlib.sha256("\n".join(paths).encode()).hexdigest()

    def is_same(self, other: Snapshot) -> bool:
        """Tell whether another snapshot is of the same version of the same table."""
        own, others = (
            (table.version, table.table_id, table.fingerprint) for table in (self, other)
        )
        return own == others

    @property
    def recipe_id(self) -> str:
        """The id of the rows' recipe, as the log has it; "" for a table without parts."""
        parts = self.parts
        return str(parts[0]["min.recipe"]) if parts else ""

    @property
    def columns(self) -> pa.Schema:
        """The columns of this version with their types; lists have no length there."""
        return pa.schema(self._delta.schema().to_arrow())

    @property
    def column_names(self) -> list[str]:
        """The columns of this version, in their order."""
        return list(self.columns.names)

    @property
    def carried(self) -> CarriedType:
        """The type of the column ``source``; {} when there is none."""
        if self._delta is None:
            return {}
        name, schema = CARRIED[0], self.columns
        return from_arrow(schema.field(name).type if name in schema.names else None)

    def newest(self) -> Self:
        """Open the same table again, in the version that readers see now."""
        return type(self)(self._output, self.name)

    def at(self, version: int) -> Self:
        """Open an earlier version of the same table, for reading only."""
        from deltalake import DeltaTable

        table = copy(self)
        table._delta = read_delta(
            self.url,
            lambda: DeltaTable(self._delta_url, version=version, storage_options=self._options),
        )
        return table

    def history(self) -> list[dict[str, Any]]:
        """Return Delta's history, newest first; empty when there is no table."""
        return read_delta(self.url, lambda: list(self._delta.history())) if self._delta else []

    def recipe(self) -> Recipe | None:
        """Return the recipe of the rows, from the metadata of one part.

        Returns:
            The recipe, or None for a table without parts.

        Raises:
            Damaged: That part is damaged.
        """
        parts = self.parts
        return read_recipe(read_part(self.storage, parts[0]["path"])) if parts else None

    def read(
        self,
        columns: Sequence[str],
        where: Any = None,
        limit: int | None = None,
        parts: Collection[str] | None = None,
    ) -> pa.Table:
        """Read some columns of the rows.

        Args:
            columns: Names of columns. ``__filename`` gives the path of each row's part.
            where: An Arrow expression that selects rows; by default all.
            limit: The max number of rows, by default no limit. They may be any of the rows.
            parts: Paths of the parts to read, by default all.

        Raises:
            Damaged: A part cannot be read.
            StorageError: The bucket does not answer.
        """
        if self._delta is None:
            return no_rows(columns)

        def read() -> pa.Table:
            dataset = self._delta.to_pyarrow_dataset()
            if parts is not None:
                dataset = only_parts(dataset, parts)
            if limit is not None and limit < sum(rows for _, rows in self.row_counts()):
                return dataset.head(limit, columns=list(columns), filter=where)
            return dataset.to_table(columns=list(columns), filter=where)

        return self._rows(read)

    def scan(self, use: Callable[[Any], pa.Table]) -> pa.Table:
        """Hand all rows to a function, which reads what it needs of them.

        Args:
            use: Takes a ``pyarrow.dataset.Dataset``, and returns rows. It may be called again when
                a bucket does not answer.

        Raises:
            Damaged: A part cannot be read.
            StorageError: The bucket does not answer.
        """
        return self._rows(lambda: use(self._delta.to_pyarrow_dataset()))

    def _rows(self, read: Callable[[], pa.Table]) -> pa.Table:
        """Read rows with retries; raise ``Damaged`` when a part cannot be read."""
        try:
            return read_delta(self.url, read)
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"the table {self.url} cannot be read: {one_line(error)}") from error

    def read_range(self, columns: Sequence[str], within: Range) -> pa.Table:
        """Read some columns of the rows whose uri lies in a range.

        Parts whose bounds lie outside the range are not read.

        Args:
            columns: Names of columns.
            within: The range of uris.

        Raises:
            Damaged: A part cannot be read.
            StorageError: The bucket does not answer.
        """
        if self._delta is None or within == Range():
            return self.read(columns)
        uri = pa.compute.field("uri")
        where = uri >= within.low
        # Delta takes "" for null, and no uri compares as larger than null.
        bounds = [("uri", ">=", within.low)] if within.low else []
        if within.high is not None:
            bounds, where = [*bounds, ("uri", "<", within.high)], where & (uri < within.high)

        def read() -> pa.Table:
            dataset = self._delta.to_pyarrow_dataset(file_pruning_predicate=bounds)
            return dataset.to_table(columns=list(columns), filter=where)

        return self._rows(read)

    def row_counts(self) -> list[tuple[str, int]]:
        """Return the min uri and the row count of each part."""
        parts = self._add_actions()
        if not parts.num_rows:
            return []
        return list(
            zip(parts["min.uri"].to_pylist(), parts["num_records"].to_pylist(), strict=True)
        )

    def _add_actions(self) -> pa.Table:
        """Return the parts of this version, as Delta's log describes them."""
        if self._delta is None:
            return pa.table({})
        return pa.table(read_delta(self.url, lambda: self._delta.get_add_actions(flatten=True)))


def no_rows(columns: Sequence[str]) -> pa.Table:
    """Return a table with these columns and no rows: numbers are int64, the others strings."""
    kinds = {name: pa.string() for name in columns} | {"size": pa.int64(), CARRIED[1]: pa.int64()}
    return pa.table({name: pa.array([], kinds[name]) for name in columns})
