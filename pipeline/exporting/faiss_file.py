"""A folder with an index of FAISS and a table of its rows.

``index-DIGEST.faiss`` holds the vectors, divided by their lengths, under int64 ids: an inner
product is the cosine, and the search is exact. ``rows-DIGEST.parquet`` says which image each id is.
``export.json`` names both. The index is in memory while it changes: 5 KB for each vector of 1280
numbers, or half of that as float16.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job
from pipeline.exporting.state import State
from pipeline.indexing.ivf import faiss
from pipeline.retrieval.blocks import scale_of
from transforms import parquet
from transforms.errors import UserError
from transforms.storage import NotFound, Storage, open_storage

_FILE = re.compile(r"(?:index|rows)-[0-9a-f]{16}\.(?:faiss|parquet)")
_KINDS = {"float32": "IDMap,Flat", "float16": "IDMap,SQfp16"}


class FaissFile:
    """The folder.

    Args:
        job: What to export.

    Raises:
        UserError: FAISS is not installed.
    """

    atomic = True
    adds = True

    def __init__(self, job: Job) -> None:
        self._faiss = faiss()
        self._job = job
        self._storage: Storage = open_storage(job.dest, job.stores)
        self._index: Any = None
        self._rows: list[pa.Table] = []
        self._files: dict[str, dict[str, int]] = {}

    def read_state(self) -> State | None:
        return states.read_state(self._storage)

    def write_state(self, state: State) -> None:
        states.write_state(self._storage, state)
        self._files = {name: dict(sizes) for name, sizes in state.files.items()}

    def is_empty(self) -> bool:
        return next(self._own_files(), None) is None

    def clear(self) -> None:
        for key in list(self._own_files()):
            self._storage.delete(key)
        self._files = {}

    def stored(self) -> Iterator[pa.Table]:
        self._load()
        names = [self._job.shape.columns[name] for name in NAMES]
        for rows in self._rows:
            yield rows.select(names).rename_columns(list(NAMES))

    def send(self, batches: Iterator[Batch]) -> None:
        self._load()
        for batch in batches:
            ids = batch.keys.combine_chunks()
            self._forget(ids)
            vectors = batch.vectors * scale_of(batch.vectors)[:, None]
            self._index.add_with_ids(vectors, ids.to_numpy())
            self._rows.append(batch.rows)

    def remove(self, keys: Iterator[pa.Array]) -> None:
        self._load()
        for ids in keys:
            self._forget(ids)

    def close(self) -> None:
        """Nothing is held open."""

    def count(self) -> int | None:
        self._load()
        return int(self._index.ntotal)

    def finish(self, state: State) -> None:
        rows = pa.concat_tables([self._job.shape.schema.empty_table(), *self._rows])
        serialized = self._faiss.serialize_index(self._index)
        files = dict(
            [
                # A view: the bytes of a large index are not copied once more.
                self._save("index", "faiss", cast(bytes, memoryview(serialized))),
                self._save("rows", "parquet", parquet.encode(rows)),
            ]
        )
        states.write_state(self._storage, replace(state, files=files))
        kept = {key for sizes in files.values() for key in sizes}
        for key in list(self._own_files()):
            if key not in kept:
                self._storage.delete(key)

    def _load(self) -> None:
        """Read the index and its rows into memory, or begin with none."""
        if self._index is not None:
            return
        if not self._files:
            kind = _KINDS[self._job.shape.options["numbers"]]
            self._index = self._faiss.index_factory(
                self._job.shape.dimension, kind, self._faiss.METRIC_INNER_PRODUCT
            )
            return
        data = self._read("index")
        self._index = self._faiss.deserialize_index(np.frombuffer(data, np.uint8))
        self._rows = [parquet.read(self._read("rows"))]

    def _read(self, name: str) -> bytes:
        """Read a file and check it: FAISS would obey wrong sizes in it.

        Raises:
            UserError: It is missing, or is not what was written.
        """
        key = next(iter(self._files.get(name, {})), "")
        try:
            data = self._storage.read(key) if _FILE.fullmatch(key) else b""
        except NotFound:
            data = b""
        if key != _name(name, key.rpartition(".")[2], data):
            raise UserError(
                f"{self._storage.url}/{key} is not what was written. Give --replace to send all "
                "rows anew"
            )
        return data

    def _save(self, name: str, ending: str, data: bytes) -> tuple[str, dict[str, int]]:
        key = _name(name, ending, data)
        self._storage.write(key, data)
        return name, {key: len(data)}

    def _forget(self, ids: pa.Array) -> None:
        """Take ids out, if they are there."""
        key = self._job.shape.key
        kept = [rows.filter(pc.invert(pc.is_in(rows[key], value_set=ids))) for rows in self._rows]
        if sum(rows.num_rows for rows in kept) < sum(rows.num_rows for rows in self._rows):
            self._index.remove_ids(ids.to_numpy())
            self._rows = kept

    def _own_files(self) -> Iterator[str]:
        return (entry.key for entry in self._storage.list() if _FILE.fullmatch(entry.key))


def _name(name: str, ending: str, data: bytes) -> str:
    return f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.{ending}"


def open_target(job: Job) -> FaissFile:
    """Return the target."""
    return FaissFile(job)


def hint(job: Job) -> str:
    """Say how to open the index."""
    return f"faiss.read_index of the file that {job.dest}/{states.FILE} names"
