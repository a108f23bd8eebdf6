"""Batches for Vertex AI Vector Search, as Avro.

The layout is that of Google's documentation,
https://cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure: Avro files directly in
a folder, and text files with an id a line in its sub-folder ``delete``. Columns become filters:
text and booleans become ``restricts``, and numbers ``numeric_restricts``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.exporting import avro
from pipeline.exporting.base import NAMES, Batch, Job, Shape
from pipeline.exporting.batches import Batches, encode_lines, load_hint
from pipeline.exporting.numbers import as_numbers
from pipeline.exporting.plain import plain

_NO = avro.number(0)
_SOME = avro.number(1)
_INT32 = 1 << 31


def _optional(kind: object) -> list[object]:
    return ["null", kind]


def _record(name: str, **fields: object) -> dict[str, Any]:
    kinds = [{"name": field, "type": kind} for field, kind in fields.items()]
    return {"type": "record", "name": name, "fields": kinds}


def _array(items: object) -> dict[str, object]:
    return {"type": "array", "items": items}


_WORDS = _optional(_array("string"))
_RESTRICT = _record("Restrict", namespace="string", allow=_WORDS, deny=_WORDS)
_NUMERIC = _record(
    "NumericRestrict",
    namespace="string",
    value_int=_optional("int"),
    value_float=_optional("float"),
    value_double=_optional("double"),
)
SCHEMA = _record(
    "FeatureVector",
    id="string",
    embedding=_array("float"),
    restricts=_optional(_array(_RESTRICT)),
    numeric_restricts=_optional(_array(_NUMERIC)),
    crowding_tag=_optional("string"),
)


class Vertex:
    """The files of a batch.

    Args:
        shape: Of the rows.
    """

    ending = "avro"
    delete_ending = "txt"

    def __init__(self, shape: Shape) -> None:
        own = {shape.key, *(shape.columns[name] for name in NAMES)}
        columns = [field for field in shape.schema if field.name not in own]
        self._words = [field.name for field in columns if not _is_number(field.type)]
        self._numbers = [field.name for field in columns if _is_number(field.type)]

    def encode(self, batches: list[Batch]) -> bytes:
        return avro.avro_file(SCHEMA, map(self._block, batches))

    def encode_keys(self, keys: pa.Array) -> bytes:
        return encode_lines(keys)

    def _block(self, batch: Batch) -> tuple[int, bytes]:
        ids = batch.keys.to_pylist()
        # An id that cannot be removed later is refused now.
        encode_lines(batch.keys)
        vectors = as_numbers(batch.vectors, "float32")
        head, end = avro.number(vectors.shape[1]), _NO
        words = self._column(batch, self._words, _restrict)
        numbers = self._column(batch, self._numbers, _numeric)
        body = [
            avro.string(key) + head + vector.tobytes() + end + restricts + numeric + _NO
            for key, vector, restricts, numeric in zip(ids, vectors, words, numbers, strict=True)
        ]
        return len(body), b"".join(body)

    @staticmethod
    def _column(
        batch: Batch, names: Sequence[str], encode: Callable[[str, Any], bytes]
    ) -> Iterator[bytes]:
        """Yield the filters of each row, without those that are null."""
        columns = [plain(batch.rows[name]) for name in names]
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True) if names else ()
        for row in rows or ((),) * batch.rows.num_rows:
            items = [
                encode(name, value)
                for name, value in zip(names, row, strict=True)
                if value is not None
            ]
            yield _SOME + avro.array(items) if items else _NO


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _restrict(name: str, value: object) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return avro.string(name) + _SOME + avro.array([avro.string(text)]) + _NO


def _numeric(name: str, value: float) -> bytes:
    if isinstance(value, int) and -_INT32 <= value < _INT32:
        return avro.string(name) + _SOME + avro.number(value) + _NO + _NO
    if isinstance(value, int):
        return avro.string(name) + _NO + _NO + _SOME + struct.pack("<d", value)
    return avro.string(name) + _NO + _SOME + struct.pack("<f", value) + _NO


def open_target(job: Job) -> Batches:
    """Return the target."""
    return Batches(job, Vertex(job.shape))


def hint(job: Job) -> str:
    """Say how to load the batch."""
    return load_hint(job, "gcloud ai indexes update INDEX --metadata-file=… : contentsDeltaUri")
