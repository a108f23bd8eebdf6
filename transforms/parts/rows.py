"""Turn images and the network's outputs into an Arrow table of the features schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from transforms.carried import hash_of
from transforms.carried_types import to_array
from transforms.decode.pool import PreparedImage
from transforms.engines.base import ExportedModel, Outputs
from transforms.records import CARRIED, ImageReference, carried_fields, features_schema


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded image that is ready for the network."""

    reference: ImageReference
    image: PreparedImage
    # Of the encoded bytes, in hexadecimal.
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Columns that all rows of a run share."""

    recipe_id: str
    run_id: str
    started_at: datetime  # UTC
    # Type of the column ``source``; None for a run that carries nothing.
    source: pa.DataType | None = None


def features_table(
    images: Sequence[Decoded], outputs: Outputs, model: ExportedModel, origin: Origin
) -> pa.Table:
    """Return one row for each image.

    Args:
        images: N images.
        outputs: Outputs of the N images, in the same order.
        model: The network, for dimension and labels.
        origin: The columns that all rows of the run share.
    """
    schema = features_schema(model.dimension)
    count = len(images)
    references = [item.reference for item in images]
    columns: dict[str, object] = {
        "uri": [reference.uri for reference in references],
        "etag": [reference.etag for reference in references],
        "size": [reference.size for reference in references],
        "modified": [reference.modified for reference in references],
        "content_sha256": [item.sha256 for item in images],
        "format": [item.image.format for item in images],
        "width": [item.image.width for item in images],
        "height": [item.image.height for item in images],
        "phash": [item.image.phash for item in images],
        "recipe": [origin.recipe_id] * count,
        "run_id": [origin.run_id] * count,
        "extracted_at": [origin.started_at] * count,
        "embedding": _vectors(outputs.features, schema.field("embedding").type),
        **label_columns(outputs, model.labels),
    }
    rows = pa.table([_column(columns[field.name], field.type) for field in schema], schema=schema)
    return with_sources(rows, references, origin)


def with_sources(rows: pa.Table, references: Sequence[ImageReference], origin: Origin) -> pa.Table:
    """Give rows the carried values of their images, instead of those that they have.

    Args:
        rows: N rows of the features table.
        references: Their N images.
        origin: Whether the run carries values, and their type.
    """
    rows = rows.drop_columns([name for name in CARRIED if name in rows.column_names])
    if origin.source is None:
        return rows
    sources = [reference.source for reference in references]
    fields = carried_fields(origin.source)
    rows = rows.append_column(fields[0], to_array(sources, origin.source))
    return rows.append_column(fields[1], pa.array(map(hash_of, sources), pa.int64()))


def _column(values: object, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _vectors(features: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Convert float32 [N, D] to one fixed-size list per row, without a copy per value."""
    flat = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def label_columns(outputs: Outputs, labels: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns ``label``, ``score`` and ``labels`` [N]; null without labels.

    Args:
        outputs: Outputs of N images.
        labels: The names of all classes.
    """
    count, size = outputs.indices.shape
    schema = features_schema(dimension=1)
    kinds = {name: schema.field(name).type for name in ("label", "score", "labels")}
    if not size:
        return {name: pa.nulls(count, kind) for name, kind in kinds.items()}
    names = np.array(labels, dtype=object)[outputs.indices]
    columns = [
        pa.array(outputs.indices.reshape(-1), pa.int32()),
        pa.array(names.reshape(-1), pa.string()),
        pa.array(outputs.scores.reshape(-1), pa.float32()),
    ]
    ranked = pa.StructArray.from_arrays(columns, fields=list(kinds["labels"].value_type))
    offsets = pa.array(np.arange(0, count * size + 1, size, dtype=np.int32))
    return {
        "label": pa.array(names[:, 0], kinds["label"]),
        "score": pa.array(outputs.scores[:, 0], kinds["score"]),
        "labels": pa.ListArray.from_arrays(offsets, ranked, type=kinds["labels"]),
    }
