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


# Columns of the features table that older parts lack.
_NEW_COLUMNS = ("phash",)


def features_schema(dimension: int) -> pa.Schema:
    """Return the columns of the features table; ``dimension`` float32 numbers come last."""
    element = pa.field("element", pa.float32(), nullable=False)
    return pa.schema(
        [
            *REFERENCE_SCHEMA,
            pa.field("content_sha256", pa.string()),
            pa.field("format", pa.string()),
            # As stored, before the EXIF orientation
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            # null in rows that were made before this column existed
            pa.field("phash", pa.int64()),
            pa.field("label", pa.string()),  # null for a backbone without labels
            pa.field("score", pa.float32()),
            pa.field("labels", LABELS_TYPE),
            pa.field("recipe", pa.string()),
            pa.field("run_id", pa.string()),
            pa.field("extracted_at", _TIMESTAMP),
            pa.field("embedding", pa.list_(element, dimension), nullable=False),
        ]
    )


def with_new_columns(rows: pa.Table) -> pa.Table:
    """Add the columns that did not exist when rows were written, as nulls.

    Args:
        rows: Rows of the features or the errors table; those of errors stay as they are.
    """
    schema = features_schema(1)
    missing = [name for name in _NEW_COLUMNS if name not in rows.column_names]
    for name in missing if "embedding" in rows.column_names else ():
        field = schema.field(name)
        place = min(schema.get_field_index(name), rows.num_columns)
        rows = rows.add_column(place, field, pa.nulls(rows.num_rows, field.type))
    return rows


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One image of a source, without its bytes: a whole file, or a member of a container.

    The last three fields have no columns: no source lists members yet.
    """

    # Absolute path of a local file, otherwise the full URL; of a member CONTAINER::MEMBER.
    uri: str
    # Of the file that holds the bytes, so of a member's container; "" where the source knows none.
    etag: str
    # Bytes of the image; -1 where unknown.
    size: int
    # UTC.
    modified: datetime | None
    # The file that holds the image, as a path or URL; None: the uri is a whole file.
    container: str | None = None
    # Where the image's bytes start in the container, and how many there are.
    offset: int | None = None
    length: int | None = None

    @property
    def location(self) -> str:
        """Path or URL of the file that holds the bytes."""
        return self.uri if self.container is None else self.container

    @property
    def byte_range(self) -> tuple[int, int] | None:
        """Offset and length of the bytes in the container; None for a whole file."""
        if self.container is None or self.offset is None or self.length is None:
            return None
        return self.offset, self.length

    @property
    def expected_size(self) -> int:
        """Bytes that are to be read; -1 where that is not known."""
        return self.size if self.byte_range is None else self.byte_range[1]
