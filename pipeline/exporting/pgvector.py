"""A table of PostgreSQL with pgvector: ``--dest postgresql://HOST/DATABASE#TABLE``.

A call is one transaction: readers see all of it or nothing, and a call that is killed has changed
nothing. The state is a row of the table ``image_features_exports`` in the same database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job
from pipeline.exporting.numbers import as_numbers
from pipeline.exporting.places import database_errors, split_dest
from pipeline.exporting.state import State
from transforms.errors import Refused, UserError
from transforms.extras import install_command

_STATES = "image_features_exports"
# pgvector makes an index of a ``vector`` with at most 2,000 numbers, of a ``halfvec`` with 4,000.
_MAX_VECTOR = 2000
_AT_ONCE = 10_000
_TYPES = (
    (pa.types.is_string, "text"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_int64, "int8"),
    (pa.types.is_integer, "int4"),
    (pa.types.is_float64, "float8"),
    (pa.types.is_floating, "float4"),
    (pa.types.is_timestamp, "timestamptz"),
)


class PgVector:
    """The table.

    Args:
        job: What to export.

    Raises:
        UserError: The libraries are not installed, or a name is too long.
        RunFailed: PostgreSQL does not answer, or lacks pgvector.
        Refused: Another export to the same table is at work.
    """

    atomic = True
    adds = True

    def __init__(self, job: Job) -> None:
        try:
            import psycopg
            from pgvector.psycopg import register_vector
        except ImportError as error:
            command = install_command("pgvector")
            raise UserError(f"--to pgvector needs psycopg and pgvector. {command}") from error
        self._psycopg = psycopg
        self._sql: Any = psycopg.sql
        self._job = job
        self._state: State | None = None
        self._url, self._name = split_dest(job.dest, job.name)
        for name in (*job.shape.schema.names, job.shape.vector):
            if len(name.encode()) > 63:
                raise UserError(f"column {name!r}: PostgreSQL allows 63 bytes; rename it")
        with self._errors():
            self._link: Any = psycopg.connect(self._url)
            # In a transaction of their own: others would wait for the end of the export.
            self._run("CREATE EXTENSION IF NOT EXISTS vector")
            self._run("CREATE TABLE IF NOT EXISTS {states} (name text PRIMARY KEY, state text)")
            self._link.commit()
            register_vector(self._link)
            lock = self._one("SELECT pg_try_advisory_xact_lock(hashtext({text}))")
            if not lock:
                raise Refused(f"another export to {job.dest} is at work; nothing was changed")

    def read_state(self) -> State | None:
        # Nobody else changes it while the lock is held, and no query can be sent during a COPY.
        if self._state:
            return self._state
        with self._errors():
            found = self._one("SELECT state FROM {states} WHERE name = {text}")
        return states.decode_state(found, f"{self._job.dest}: {_STATES}") if found else None

    def write_state(self, state: State) -> None:
        self._state = state
        text = states.encode_state(state).decode()
        with self._errors():
            self._run(
                "INSERT INTO {states} VALUES ({text}, %s) "
                "ON CONFLICT (name) DO UPDATE SET state = EXCLUDED.state",
                text,
            )

    def is_empty(self) -> bool:
        with self._errors():
            return self._one("SELECT to_regclass(quote_ident({text}))") is None

    def clear(self) -> None:
        with self._errors():
            self._run("DROP TABLE IF EXISTS {table}")

    def stored(self) -> Iterator[pa.Table]:
        if self.is_empty():
            return
        with self._errors(), self._link.cursor(name="stored") as cursor:
            cursor.execute(self._format("SELECT {uri}, {run_id} FROM {table}"))
            while rows := cursor.fetchmany(_AT_ONCE):
                columns = zip(*rows, strict=True)
                yield pa.table([pa.array(column, pa.string()) for column in columns], list(NAMES))

    def send(self, batches: Iterator[Batch]) -> None:
        first = next(batches, None)
        new = self.is_empty()
        with self._errors():
            if new:
                self._create()
            if first is None:
                return
            if new:
                self._copy("table", chain([first], batches))
                return
            self._run("CREATE TEMP TABLE incoming (LIKE {table}) ON COMMIT DROP")
            self._copy("incoming", chain([first], batches))
            self._run(
                "INSERT INTO {table} SELECT * FROM incoming ON CONFLICT ({key}) "
                "DO UPDATE SET ({names}) = ROW ({excluded})"
            )
            self._run("DROP TABLE incoming")

    def remove(self, keys: Iterator[pa.Array]) -> None:
        for ids in keys:
            with self._errors():
                self._run(f"DELETE FROM {{table}} WHERE {{key}} = ANY (%s::{self._key_type}[])",
                          ids.to_pylist())  # fmt: skip

    def count(self) -> int | None:
        if self.is_empty():
            return 0
        with self._errors():
            return int(self._one("SELECT count(*) FROM {table}"))

    def finish(self, state: State) -> None:
        self.write_state(state)
        with self._errors():
            self._link.commit()

    def close(self) -> None:
        self._link.close()

    @property
    def _key_type(self) -> str:
        return {"int64": "int8", "uuid5": "uuid"}.get(self._job.shape.id, "text")

    def _column_types(self) -> dict[str, str]:
        """Return the type of each column, in the order of the table."""
        shape = self._job.shape
        kinds = {}
        for field in shape.schema:
            found = (word for is_type, word in _TYPES if is_type(field.type))
            kinds[field.name] = next(found, "jsonb")
        kinds[shape.key] = self._key_type
        kinds[shape.vector] = self._vector_type
        return kinds

    @property
    def _vector_type(self) -> str:
        chosen = self._job.shape.options["type"]
        if chosen == "auto":
            chosen = "vector" if self._job.shape.dimension <= _MAX_VECTOR else "halfvec"
        return chosen

    def _create(self) -> None:
        shape = self._job.shape
        identifier, text = self._sql.Identifier, self._sql.SQL
        columns = []
        for name, kind in self._column_types().items():
            length = f"({shape.dimension})" if name == shape.vector else ""
            key = " PRIMARY KEY" if name == shape.key else ""
            columns.append(identifier(name) + text(f" {kind}{length}{key}"))
        self._run("CREATE TABLE {table} ({columns})", columns=text(", ").join(columns))

    def _copy(self, where: str, batches: Iterator[Batch]) -> None:
        from psycopg.types.json import Jsonb

        kinds = list(self._column_types().values())
        wraps = {"jsonb": Jsonb, "uuid": UUID}
        place = self._format("COPY {" + where + "} FROM STDIN (FORMAT BINARY)")
        with self._link.cursor() as cursor, cursor.copy(place) as copy:
            copy.set_types(kinds)
            for batch in batches:
                columns = [column.to_pylist() for column in batch.rows.columns]
                for number, kind in enumerate(kinds[:-1]):
                    if wrap := wraps.get(kind):
                        columns[number] = [v if v is None else wrap(v) for v in columns[number]]
                for row in zip(*columns, self._vectors(batch), strict=True):
                    copy.write_row(row)

    def _vectors(self, batch: Batch) -> Iterator[Any]:
        from pgvector import HalfVector, Vector

        half = self._vector_type == "halfvec"
        kind = HalfVector if half else Vector
        vectors: np.ndarray = as_numbers(batch.vectors, "float16" if half else "float32")
        return (kind(vector) for vector in vectors)

    def _format(self, statement: str, **parts: Any) -> Any:
        """Put the names into a statement, each quoted."""
        shape, identifier, text = self._job.shape, self._sql.Identifier, self._sql.SQL
        names = [name for name in self._column_types() if name != shape.key]
        return text(statement).format(
            table=identifier(self._name),
            incoming=identifier("incoming"),
            states=identifier(_STATES),
            text=self._sql.Literal(self._name),
            key=identifier(shape.key),
            uri=identifier(shape.columns["uri"]),
            run_id=identifier(shape.columns["run_id"]),
            names=text(", ").join(map(identifier, names)),
            excluded=text(", ").join(identifier("excluded", name) for name in names),
            **parts,
        )

    def _run(self, statement: str, *values: Any, **parts: Any) -> Any:
        return self._link.execute(self._format(statement, **parts), values or None)

    def _one(self, statement: str) -> Any:
        row = self._run(statement).fetchone()
        return row[0] if row else None

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors("PostgreSQL", self._job.dest, (self._psycopg.Error,))


def open_target(job: Job) -> PgVector:
    """Return the target."""
    return PgVector(job)


def hint(job: Job) -> str:
    """Say how to make a search fast."""
    shape, (_, name) = job.shape, split_dest(job.dest, job.name)
    kind = "vector" if shape.dimension <= _MAX_VECTOR else "halfvec"
    kind = shape.options["type"] if shape.options["type"] != "auto" else kind
    return f'CREATE INDEX ON "{name}" USING hnsw ("{shape.vector}" {kind}_cosine_ops);'
