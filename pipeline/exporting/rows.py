"""Read the rows of a part in the shape that a destination wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exporting.base import NAMES, Batch, Shape
from pipeline.exporting.ids import ids_of
from transforms.errors import Damaged, first_line
from transforms.parts.vectors import read_vectors
from transforms.parts.write import read_part
from transforms.prefetch import prefetch
from transforms.storage import Storage

# Takes NAMES [n], and tells which rows are wanted, as bool [n].
Choose = Callable[[pa.Table], np.ndarray]


def read_batches(
    storage: Storage, parts: Sequence[str], shape: Shape, choose: Choose
) -> Iterator[Batch]:
    """Yield the chosen rows of each part, reading the next part meanwhile.

    A part without such rows yields no batch.

    Args:
        storage: The table's folder.
        parts: Paths of parts.
        shape: The columns.
        choose: Which rows; it is called once for each part, in order.

    Raises:
        Damaged: A part is missing, or does not hold what was written.
    """
    for batch in prefetch(read_batch(storage, path, shape) for path in parts):
        names = batch.rows.select([shape.columns[name] for name in NAMES])
        mask = choose(names.rename_columns(list(NAMES)))
        if mask.all():
            yield batch
        elif mask.any():
            yield Batch(batch.rows.filter(pa.array(mask)), batch.vectors[mask])


def read_batch(storage: Storage, path: str, shape: Shape) -> Batch:
    """Read all rows of a part. Columns that it was written without are null.

    Raises:
        Damaged: The part is missing, or does not hold what was written.
    """
    encoded = read_part(storage, path)
    try:
        file = pq.ParquetFile(pa.BufferReader(encoded))
        known = [name for name in shape.columns if name in file.schema_arrow.names]
        rows = file.read(known, use_threads=False).select(known)
        vectors = read_vectors(file, encoded)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(
            f"part {path} of {storage.url} cannot be read: {first_line(error)}"
        ) from error
    rows = _complete(rows, shape)
    ids = pa.chunked_array([ids_of(rows["uri"].to_pylist(), shape.id)])
    renamed = rows.rename_columns([shape.columns[name] for name in rows.column_names])
    columns = [ids if name == shape.key else renamed[name] for name in shape.schema.names]
    return Batch(pa.table(columns, schema=shape.schema), vectors)


def _complete(rows: pa.Table, shape: Shape) -> pa.Table:
    """Add the columns and the fields in structs that a part was written without, as nulls."""
    wanted = pa.schema([shape.types.field(name).remove_metadata() for name in shape.columns])
    if rows.schema.equals(wanted):
        return rows
    # The types of the first table come first, so fields keep the order that the table has.
    merged = pa.concat_tables([wanted.empty_table(), rows], promote_options="permissive")
    return merged.select(wanted.names).cast(_nullable(wanted))


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, field.type) for field in schema])
