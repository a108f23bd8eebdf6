"""Batches for Pinecone's import: Parquet files with the columns ``id``, ``values``, ``metadata``.

The columns are those of Pinecone's documentation,
https://docs.pinecone.io/guides/legacy/vectors-api/import-vectors. An import adds rows and cannot
delete, so the ids to remove come as text files.
"""

from __future__ import annotations

import json

import pyarrow as pa

from pipeline.exporting.base import Batch, Job, Shape
from pipeline.exporting.batches import Batches, encode_lines, load_hint
from pipeline.exporting.numbers import as_lists
from pipeline.exporting.plain import plain
from transforms import parquet
from transforms.errors import UserError

# Pinecone's own limits.
_MAX_ID, _MAX_METADATA = 512, 40_960


class Pinecone:
    """The files of a batch.

    Args:
        shape: Of the rows.
    """

    ending = "parquet"
    delete_ending = "txt"

    def __init__(self, shape: Shape) -> None:
        self._names = [name for name in shape.schema.names if name != shape.key]
        if shape.id == "uri":
            self._names = shape.schema.names

    def encode(self, batches: list[Batch]) -> bytes:
        return parquet.encode(pa.concat_tables(map(self._table, batches)))

    def encode_keys(self, keys: pa.Array) -> bytes:
        return encode_lines(keys)

    def _table(self, batch: Batch) -> pa.Table:
        ids = [str(key) for key in batch.keys.to_pylist()]
        encode_lines(batch.keys)
        for key in ids:
            if len(key) > _MAX_ID or not key.isascii():
                raise UserError(
                    f"{key[:200]!r}: an id of Pinecone has at most {_MAX_ID} characters of ASCII. "
                    "Give --id sha256"
                )
        columns = [plain(batch.rows[name]) for name in self._names]
        texts = [self._metadata(values) for values in zip(*columns, strict=True)]
        vectors = as_lists(batch.vectors, "float32", fixed=False)
        return pa.table({"id": pa.array(ids), "values": vectors, "metadata": pa.array(texts)})

    def _metadata(self, values: tuple[object, ...]) -> str:
        """Return the metadata of a row; Pinecone takes no null and nothing nested in it."""
        fields = {
            name: value if isinstance(value, str | int | float) else json.dumps(value)
            for name, value in zip(self._names, values, strict=True)
            if value is not None
        }
        text = json.dumps(fields, ensure_ascii=False)
        if len(text.encode()) > _MAX_METADATA:
            raise UserError(
                f"the columns of one row take {len(text.encode()):,} bytes; Pinecone allows "
                f"{_MAX_METADATA:,}. Name fewer with --columns"
            )
        return text


def open_target(job: Job) -> Batches:
    """Return the target."""
    return Batches(job, Pinecone(job.shape))


def hint(job: Job) -> str:
    """Say how to load the batch."""
    return load_hint(job, "index.start_import(uri=…) of Pinecone's client loads")
