"""Batches for Milvus' bulk import: Parquet files with a column for each field of the collection.

The ids to remove come as text files, since an import only adds rows.
"""

from __future__ import annotations

import json

import pyarrow as pa

from pipeline.exporting.base import Batch, Job, Shape
from pipeline.exporting.batches import Batches, encode_lines, load_hint
from pipeline.exporting.numbers import as_lists
from pipeline.exporting.plain import plain
from transforms import parquet


class MilvusFiles:
    """The files of a batch.

    Args:
        shape: Of the rows.
    """

    ending = "parquet"
    delete_ending = "txt"

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def encode(self, batches: list[Batch]) -> bytes:
        return parquet.encode(pa.concat_tables(map(self._table, batches)))

    def encode_keys(self, keys: pa.Array) -> bytes:
        return encode_lines(keys)

    def _table(self, batch: Batch) -> pa.Table:
        encode_lines(batch.keys)
        rows = pa.table({name: _flat(batch.rows[name]) for name in batch.rows.column_names})
        vectors = as_lists(batch.vectors, "float32", fixed=False)
        return rows.append_column(self._shape.vector, vectors)


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Return times as text, and lists and structs as JSON."""
    if pa.types.is_timestamp(column.type):
        return pa.array(plain(column), pa.string())
    if pa.types.is_nested(column.type):
        texts = [None if value is None else json.dumps(value) for value in plain(column)]
        return pa.array(texts, pa.string())
    return column


def open_target(job: Job) -> Batches:
    """Return the target."""
    return Batches(job, MilvusFiles(job.shape))


def hint(job: Job) -> str:
    """Say how to load the batch."""
    return load_hint(job, "bulk_import of pymilvus' bulk_writer loads")
