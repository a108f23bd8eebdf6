"""A table of LanceDB, https://lancedb.com: ``--dest FOLDER/NAME.lance``, local or in a bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job, Shape
from pipeline.exporting.numbers import as_lists
from pipeline.exporting.state import State
from transforms.errors import RunFailed, UserError, first_line
from transforms.extras import install_command
from transforms.storage import Storage, is_full, open_storage

_ENDING = ".lance"


class Lance:
    """The table.

    Args:
        job: What to export.

    Raises:
        UserError: LanceDB is not installed, or the destination has another ending.
    """

    atomic = False
    adds = True

    def __init__(self, job: Job) -> None:
        try:
            import lancedb
        except ImportError as error:
            raise UserError(f"--to lance needs LanceDB. {install_command('lance')}") from error
        folder, _, name = job.dest.rpartition("/")
        self._name = name.removesuffix(_ENDING)
        if not name.endswith(_ENDING) or not self._name or not folder:
            raise UserError(f"--dest {job.dest}: write FOLDER/NAME{_ENDING}")
        for column in (*job.shape.schema.names, job.shape.vector):
            # LanceDB cannot merge rows by a column whose name it would have to quote twice.
            if not re.fullmatch(r"[\w -]+", column):
                raise UserError(
                    f"column {column!r}: LanceDB takes letters, digits, _, - and spaces"
                )
        self._storage: Storage = open_storage(folder, job.stores)
        self._shape: Shape = job.shape
        # What ended the rows that LanceDB was reading, which it tells as text only.
        self._error: Exception | None = None
        options = self._storage.delta_options or None
        self._database: Any = self._call(
            lambda: lancedb.connect(self._storage.url, storage_options=options)
        )

    @property
    def _state_key(self) -> str:
        return f"{self._name}.{states.FILE}"

    def read_state(self) -> State | None:
        return states.read_state(self._storage, self._state_key)

    def write_state(self, state: State) -> None:
        states.write_state(self._storage, state, self._state_key)

    def is_empty(self) -> bool:
        # A call that was killed while it made the table may have left files without a version.
        versions = self._storage.list(f"{self._name}{_ENDING}/_versions")
        return next(iter(versions), None) is None

    def clear(self) -> None:
        for entry in list(self._storage.list(f"{self._name}{_ENDING}")):
            self._storage.delete(entry.key)

    def stored(self) -> Iterator[pa.Table]:
        if self.is_empty():
            return
        names = [self._shape.columns[name] for name in NAMES]
        for batch in self._call(lambda: self._table.search().select(names).to_batches()):
            rows = pa.Table.from_batches([batch])
            yield rows.select(names).rename_columns(list(NAMES))

    def send(self, batches: Iterator[Batch]) -> None:
        first = next(batches, None)
        if first is None and not self.is_empty():
            return
        rest = chain([first] if first else [], batches)
        reader = pa.RecordBatchReader.from_batches(self._schema, self._record_batches(rest))
        if self.is_empty():
            self._call(lambda: self._database.create_table(self._name, reader))
            return
        merge = self._table.merge_insert(self._shape.key)
        merge = merge.when_matched_update_all().when_not_matched_insert_all()
        self._call(lambda: merge.execute(reader))

    def remove(self, keys: Iterator[pa.Array]) -> None:
        for ids in keys:
            texts = ", ".join(map(_literal, ids.to_pylist()))
            self._call(partial(self._table.delete, f"`{self._shape.key}` IN ({texts})"))

    def close(self) -> None:
        """Nothing is held open."""

    def count(self) -> int | None:
        return 0 if self.is_empty() else int(self._call(lambda: self._table.count_rows()))

    def finish(self, state: State) -> None:
        self.write_state(state)

    @property
    def _table(self) -> Any:
        return self._database.open_table(self._name)

    @property
    def _schema(self) -> pa.Schema:
        vector = pa.list_(pa.float32(), self._shape.dimension)
        return self._shape.schema.append(pa.field(self._shape.vector, vector, nullable=False))

    def _record_batches(self, batches: Iterator[Batch]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                vectors = as_lists(batch.vectors, "float32", fixed=True)
                columns = [*batch.rows.columns, pa.chunked_array([vectors])]
                yield from pa.table(columns, schema=self._schema).to_batches()
        except Exception as error:
            self._error = error
            raise

    def _call(self, call: Any) -> Any:
        """Call LanceDB, whose errors have many types."""
        try:
            return call()
        except (RuntimeError, ValueError, OSError) as error:
            if self._error:
                raise self._error from None
            where = f"{self._storage.url}/{self._name}{_ENDING}"
            what_to_do = "; make room there" if is_full(error) else ""
            raise RunFailed(
                f"LanceDB failed at {where}: {first_line(error)[:300]}{what_to_do}"
            ) from error


def _literal(value: object) -> str:
    """Return a value in DataFusion's SQL, where only the quote is special in a string."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def open_target(job: Job) -> Lance:
    """Return the target."""
    return Lance(job)


def hint(job: Job) -> str:
    """Say how to open the table."""
    folder, _, name = job.dest.rpartition("/")
    return f'lancedb.connect("{folder}").open_table("{name.removesuffix(_ENDING)}")'
