"""A collection of Milvus: ``--dest http://HOST:19530#NAME``, or ``FILE.db#NAME`` for Milvus Lite.

The state is a property of the collection.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job
from pipeline.exporting.places import database_errors, split_dest
from pipeline.exporting.plain import plain
from pipeline.exporting.state import State
from transforms.errors import RunFailed, UserError
from transforms.extras import install_command

_KEY = "image_features_export"
# Milvus' own limit for text, in bytes.
_MAX_TEXT = 65_535
# Rows in one request, whose limit is 64 MB.
_AT_ONCE = 1000
_TYPES = (
    (pa.types.is_string, "VARCHAR"),
    (pa.types.is_timestamp, "VARCHAR"),
    (pa.types.is_boolean, "BOOL"),
    (pa.types.is_int64, "INT64"),
    (pa.types.is_integer, "INT32"),
    (pa.types.is_float64, "DOUBLE"),
    (pa.types.is_floating, "FLOAT"),
)
# By path of a file of Milvus Lite: the device and the number of the one that this process opened.
_opened: dict[Path, tuple[int, int]] = {}


class Milvus:
    """The collection.

    Args:
        job: What to export.

    Raises:
        UserError: Milvus' client is not installed, or a column has a name that it does not take.
        RunFailed: Milvus does not answer.
    """

    atomic = False
    adds = True

    def __init__(self, job: Job) -> None:
        try:
            import pymilvus
        except ImportError as error:
            command = install_command("milvus")
            raise UserError(f"--to milvus needs Milvus' client. {command}") from error
        # It logs each error that it raises, with its traceback.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._job = job
        self._loaded = False
        self._milvus: Any = pymilvus
        self._failures = (pymilvus.MilvusException, OSError, ValueError, RuntimeError)
        url, self._name = split_dest(job.dest, job.name)
        for name in (*job.shape.schema.names, job.shape.vector, self._name):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise UserError(f"{name!r}: a name in Milvus has letters, digits and _ only")
        with self._errors():
            token = os.environ.get("MILVUS_TOKEN", "")
            self._client: Any = pymilvus.MilvusClient(url, token=token)
        _check_file(url)

    def read_state(self) -> State | None:
        if self.is_empty():
            return None
        with self._errors():
            found = self._client.describe_collection(self._name)["properties"].get(_KEY)
            if found and not self._loaded:
                # Milvus Lite opens a collection without it, and a server may have released it.
                self._client.load_collection(self._name)
                self._loaded = True
        where = f"the property {_KEY} of {self._job.dest}"
        return states.decode_state(found, where) if found else None

    def write_state(self, state: State) -> None:
        if self.is_empty():
            with self._errors():
                self._create()
        text = states.encode_state(state).decode()
        with self._errors():
            self._client.alter_collection_properties(self._name, properties={_KEY: text})

    def is_empty(self) -> bool:
        with self._errors():
            return not self._client.has_collection(self._name)

    def clear(self) -> None:
        """Delete the collection; the next state makes it again."""
        with self._errors():
            self._client.drop_collection(self._name)

    def stored(self) -> Iterator[pa.Table]:
        names = [self._job.shape.columns[name] for name in NAMES]
        with self._errors():
            pages = self._client.query_iterator(
                self._name, batch_size=_AT_ONCE, output_fields=names
            )
            while rows := pages.next():
                columns = [[row[name] for row in rows] for name in names]
                yield pa.table([pa.array(column, pa.string()) for column in columns], list(NAMES))

    def send(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            names = [*batch.rows.column_names, self._job.shape.vector]
            columns = [plain(column) for column in batch.rows.columns]
            rows = [
                dict(zip(names, row, strict=True))
                for row in zip(*columns, list(batch.vectors), strict=True)
            ]
            for start in range(0, len(rows), _AT_ONCE):
                with self._errors():
                    self._client.upsert(self._name, rows[start : start + _AT_ONCE])

    def remove(self, keys: Iterator[pa.Array]) -> None:
        for ids in keys:
            with self._errors():
                self._client.delete(self._name, ids=ids.to_pylist())

    def close(self) -> None:
        self._client.close()

    def count(self) -> int | None:
        with self._errors():
            found = self._client.query(
                self._name, filter="", output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(found[0]["count(*)"])

    def finish(self, state: State) -> None:
        self.write_state(state)

    def _create(self) -> None:
        """Make the collection, with an index for the cosine."""
        shape, kinds = self._job.shape, self._milvus.DataType
        schema = self._client.create_schema(auto_id=False)
        for field in shape.schema:
            kind = next((word for is_type, word in _TYPES if is_type(field.type)), "JSON")
            length = {"max_length": _MAX_TEXT} if kind == "VARCHAR" else {}
            is_key = field.name == shape.key
            schema.add_field(
                field.name, kinds[kind], is_primary=is_key, nullable=not is_key, **length
            )
        schema.add_field(shape.vector, kinds.FLOAT_VECTOR, dim=shape.dimension)
        index = self._client.prepare_index_params()
        index.add_index(shape.vector, index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection(
            self._name, schema=schema, index_params=index, consistency_level="Strong"
        )

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors("Milvus", self._job.dest, self._failures)


def _check_file(url: str) -> None:
    """Check that the file which Milvus Lite has open is the one that lies there.

    Lite keeps a file open until the process ends, and would answer from one that is gone.

    Raises:
        RunFailed: The file was deleted, moved or replaced since this process opened it.
    """
    if "://" in url:
        return
    path = Path(url).absolute()
    status = path.stat() if path.exists() else None
    found = (status.st_dev, status.st_ino) if status else None
    if found is None or _opened.setdefault(path, found) != found:
        raise RunFailed(
            f"{url} was deleted, moved or replaced, and Milvus Lite still has the old one open in "
            "this process. Export in a new process"
        )


def open_target(job: Job) -> Milvus:
    """Return the target."""
    return Milvus(job)


def hint(job: Job) -> str:
    """Say how to search."""
    _, name = split_dest(job.dest, job.name)
    return f'client.load_collection("{name}"); client.search("{name}", [VECTOR], limit=10)'
