"""The schemas: the only place where columns are named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

_TIMESTAMP = pa.timestamp("us", tz="UTC")

REFERENCE_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),  # "" where the source knows none
        pa.field("size", pa.int64(), nullable=False),  # bytes; -1 where unknown
        pa.field("modified", _TIMESTAMP),
    ]
)

LABELS_TYPE = pa.list_(
    pa.field(
        "element",
        pa.struct([("index", pa.int32()), ("label", pa.string()), ("score", pa.float32())]),
    )
)

ERRORS_SCHEMA = pa.schema(
    [
        *REFERENCE_SCHEMA,
        pa.field("stage", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("first_failed_at", _TIMESTAMP, nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)


def features_schema(dimension: int) -> pa.Schema:
    """Columns of the features table: scalars first, the wide vector of ``dimension`` float32 last."""
    element = pa.field("element", pa.float32(), nullable=False)
    return pa.schema(
        [
            *REFERENCE_SCHEMA,
            pa.field("content_sha256", pa.string()),
            pa.field("format", pa.string()),
            # As stored, before the EXIF orientation
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("label", pa.string()),  # null for a backbone without labels
            pa.field("score", pa.float32()),
            pa.field("labels", LABELS_TYPE),
            pa.field("recipe", pa.string()),
            pa.field("run_id", pa.string()),
            pa.field("extracted_at", _TIMESTAMP),
            pa.field("embedding", pa.list_(element, dimension), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One image of a source, without its bytes."""

    # Absolute path for a local file, otherwise the full URL
    uri: str
    etag: str  # "" where the source knows none
    size: int  # bytes; -1 where unknown
    modified: datetime | None  # UTC
