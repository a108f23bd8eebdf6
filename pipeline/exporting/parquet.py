"""Parquet files of another shape than the parts: other lists, numbers, names and folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa

from pipeline.exporting.base import Batch, Job
from pipeline.exporting.mirror import is_stem
from pipeline.exporting.numbers import as_lists
from transforms import parquet
from transforms.errors import UserError

_FOLDER = "data"
# Hive's name of the folder of rows without a value.
_NULL = "__HIVE_DEFAULT_PARTITION__"
# The max length of a file name in bytes, on most systems.
_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """The folder of Parquet files."""

    vector: str  # name of the column
    numbers: str
    fixed: bool
    partition: str  # column at the destination; "" for none
    folders = (_FOLDER,)

    def stem_of(self, key: str) -> str | None:
        folder, _, name = key.rpartition("/")
        stem = name.removesuffix(".parquet")
        place, _, value = folder.partition("/")
        known = place == _FOLDER and name.endswith(".parquet") and is_stem(stem)
        return stem if known and "/" not in value else None

    def encode(self, batch: Batch, stem: str) -> Iterator[tuple[str, bytes]]:
        lists = as_lists(batch.vectors, self.numbers, self.fixed)
        rows = batch.rows.append_column(self.vector, lists)
        if not self.partition:
            yield f"{_FOLDER}/{stem}.parquet", self._encode(rows)
            return
        values = rows[self.partition]
        for value in values.unique().to_pylist():
            own = values.is_null() if value is None else pa.compute.equal(values, value)
            part = rows.filter(own).drop_columns([self.partition])
            folder = f"{quote(self.partition, safe='')}={_folder_of(value)}"
            yield f"{_FOLDER}/{folder}/{stem}.parquet", self._encode(part)

    def _encode(self, rows: pa.Table) -> bytes:
        scalars = [name for name in rows.column_names if name != self.vector]
        kinds = [rows.schema.field(name).type for name in scalars]
        flat = [
            name for name, kind in zip(scalars, kinds, strict=True) if not pa.types.is_nested(kind)
        ]
        return parquet.encode(rows, use_dictionary=flat, write_statistics=flat)


def open_target(job: Job) -> ParquetFiles:
    """Return the target.

    Raises:
        UserError: The column of ``partition`` is not exported, or holds lists or structs.
    """
    shape, options = job.shape, job.shape.options
    partition = options["partition"]
    if partition:
        allowed = [
            field.name
            for field in shape.schema
            if field.name != shape.key and not pa.types.is_nested(field.type)
        ]
        if partition not in allowed:
            raise UserError(
                f"--to parquet,partition={partition}: must be one of the exported columns, which "
                f"--columns chooses: {', '.join(allowed)}"
            )
    return ParquetFiles(shape.vector, options["numbers"], options["vector"] == "fixed", partition)


def hint(job: Job) -> str:
    """Say how to read the files."""
    return f"SELECT * FROM '{job.dest}/{_FOLDER}/**/*.parquet'  -- in DuckDB"


def _folder_of(value: object) -> str:
    """Return the value of a partition as part of a folder's name.

    Raises:
        UserError: It is too long for a file system.
    """
    if value is None:
        return _NULL
    text = quote(str(value), safe=" ")
    if len(text) > _NAME_BYTES // 2 or unquote(text) == _NULL:
        raise UserError(f"{str(value)[:80]!r} cannot be the name of a partition's folder")
    return text
