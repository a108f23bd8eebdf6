"""Find the rows of a Parquet file that hold images, and read them, row group by row group.

The column is a binary one, as img2dataset writes it, or a struct of ``bytes`` and ``path``, as
Hugging Face's ``datasets`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.carried import Carry
from transforms.containers.base import ContainerDamaged, Found, Wanted
from transforms.containers.bytes import ContainerFile, Seekable
from transforms.errors import FailureKind, UserError, first_line
from transforms.file_names import Ignored

# Columns that hold the image, by the conventions of ``datasets`` and img2dataset.
USUAL = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "img")
# A larger row group is cut into streams. Each is read from the group's start, page by page.
_STREAM_ROWS = 16_384
# Rows decoded at once. Each may be as large as its file says; 32 take half the 20 µs of one.
_BATCH_ROWS = 1
# Bytes of a column that are read at once, so that a large row group is never in memory.
_BUFFER = 1 << 20
# Named in a message.
_SHOWN = 10


def walk(file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
    """Yield the rows of a file, by their number; see ``transforms.containers.base.Walk``.

    Only the footer is read, and the images of row groups in which some have a path and no bytes.
    """
    with _damage():
        yield from _rows(file, wanted)


def _rows(file: ContainerFile, wanted: Wanted) -> Iterator[Found]:
    parquet = _open(file)
    leaf = _leaf(parquet.schema_arrow, wanted.column, file.uri)
    carried = _carried(parquet, leaf, wanted.carry, file.uri)
    row = stream = 0
    for group in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        named = _paths(parquet, group, leaf) if _may_be_null(parquet, group, leaf) else {}
        for start in range(0, rows, _STREAM_ROWS):
            for position in range(start, min(start + _STREAM_ROWS, rows)):
                path, source = named.get(position), next(carried, None)
                yield Found(f"{row:06d}", row, 1, -1, "", stream, leaf, path, source=source)
                row += 1
            stream += 1


def _may_be_null(parquet: pq.ParquetFile, group: int, leaf: str) -> bool:
    """Tell whether a row group may have rows without bytes, which have a path instead."""
    if not leaf.endswith(".bytes"):
        return False
    chunks = parquet.metadata.row_group(group)
    for number in range(chunks.num_columns):
        chunk = chunks.column(number)
        if chunk.path_in_schema == leaf:
            statistics = chunk.statistics
            return not (statistics and statistics.has_null_count and statistics.null_count == 0)
    return True


def _paths(parquet: pq.ParquetFile, group: int, leaf: str) -> dict[int, str]:
    """Return the paths of a row group's rows that have no bytes, by their position in the group."""
    name = leaf.removesuffix(".bytes")
    kind = parquet.schema_arrow.field(name).type
    if kind.get_field_index("path") < 0:
        return {}
    found: dict[int, str] = {}
    position = 0
    with _damage():
        for batch in parquet.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=[group], columns=[name], use_threads=False
        ):
            values = batch.column(0)
            without = pc.and_(pc.is_null(values.field("bytes")), pc.is_valid(values.field("path")))
            for i in np.flatnonzero(without.to_numpy(zero_copy_only=False)).tolist():
                found[position + i] = str(values.field("path")[i].as_py())
            position += len(values)
    return found


def _carried(parquet: pq.ParquetFile, leaf: str, carry: Carry, uri: str) -> Iterator[str | None]:
    """Yield the carried values of each row; nothing if none are carried.

    Raises:
        UserError: A named column does not exist, or cannot be carried.
    """
    image = leaf.removesuffix(".bytes")
    others = [field for field in parquet.schema_arrow if field.name != image]
    if not carry.everything:
        missing = set(carry.names) - {field.name for field in others}
        if missing:
            there = ", ".join(field.name for field in others[:_SHOWN]) or "none"
            raise UserError(
                f"--carry: {uri} has no column {min(missing)!r} to carry; it has {there}"
            )
    names = [
        field.name
        for field in others
        if carry.takes(field.name) and not (carry.everything and _is_binary(field.type))
    ]
    if not names:
        return
    with _damage():
        for batch in parquet.iter_batches(batch_size=1024, columns=names, use_threads=False):
            yield from map(carry.encode, batch.to_pylist())


def read_rows(file: ContainerFile, column: str, rows: Set[int]) -> Iterator[pa.Buffer | None]:
    """Read the images of some rows, in the order of the rows, with bounded memory.

    There are fewer images than rows where the file has fewer rows than its footer says.

    Args:
        file: The container.
        column: The leaf column of the images' bytes.
        rows: Numbers of rows; at least one.

    Raises:
        ContainerDamaged: The rest of the rows cannot be read.
        StorageError: The storage failed.
    """
    with _damage():
        parquet = _open(file)
        last, row = max(rows), 0
        for group in range(parquet.metadata.num_row_groups):
            end = row + parquet.metadata.row_group(group).num_rows
            if row > last:
                return
            if any(row <= wanted < end for wanted in rows):
                yield from _read_group(parquet, group, column, row, rows)
            row = end


def _read_group(
    parquet: pq.ParquetFile, group: int, column: str, row: int, rows: Set[int]
) -> Iterator[pa.Buffer | None]:
    last = max(rows)
    batches = parquet.iter_batches(
        batch_size=_BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False
    )
    for batch in batches:
        values = batch.column(0)
        for name in column.split(".")[1:]:
            values = values.field(name) if pa.types.is_struct(values.type) else values
        for position in range(len(values)):
            if row + position in rows:
                # Not a copy: it may be too large.
                yield values[position].as_buffer()
        row += len(values)
        if row > last:
            return


def _open(file: ContainerFile) -> pq.ParquetFile:
    return pq.ParquetFile(pa.PythonFile(Seekable(file)), pre_buffer=False, buffer_size=_BUFFER)


class _damage:  # noqa: N801  (used like a function)
    """Turn what pyarrow raises for a damaged file into ``ContainerDamaged``."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, pa.ArrowException | OSError | EOFError | UnicodeDecodeError):
            raise ContainerDamaged(
                FailureKind.CORRUPT, f"the Parquet file cannot be read: {first_line(error)}"
            ) from error


def _leaf(schema: pa.Schema, column: str | None, uri: str) -> str:
    """Return the path of the column that holds the images' bytes."""
    leaves = {field.name: path for field in schema if (path := _bytes_of(field))}
    usual = [name for name in USUAL if name in leaves]
    choice = column or (usual[0] if usual else None)
    if choice is None and len(leaves) == 1:
        (choice,) = leaves
    if choice in leaves:
        return leaves[choice]
    there = ", ".join(sorted(leaves)[:_SHOWN]) or "none"
    what = f"no column {column!r} of bytes" if column else "several columns of bytes"
    if not leaves:
        what = "no column of bytes"
    raise UserError(
        f"{uri} has {what}; columns of bytes (binary, or struct with 'bytes'): {there}; name one "
        "with --image-column"
    )


def _bytes_of(field: pa.Field) -> str | None:
    if _is_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
        inner = field.type.field("bytes").type
        return f"{field.name}.bytes" if _is_binary(inner) else None
    return None


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )
