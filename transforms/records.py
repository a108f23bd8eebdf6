"""The schemas: the only place where columns are named."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
class Member:
    """Where the bytes of an image lie in a container."""

    # Absolute path or URL of the container.
    container: str
    # Of the container; its bytes are read only while it has this etag.
    etag: str
    # How to get the bytes: one of ``transforms.containers.kinds.READERS``.
    reader: str
    # First byte of the member, in the container or in its decompressed stream; of Parquet the row.
    offset: int
    # Bytes from there on that hold the member; of Parquet 1, the row.
    length: int
    # The stream that has to be read from its start to reach the member; None for direct access.
    stream: int | None = None
    # Leaf column of the bytes in a Parquet file.
    column: str | None = None
    # Why there are no bytes to read: the word of a ``FailureKind``, ": ", and a message.
    problem: str | None = None


MEMBER_TYPE = pa.struct(
    [
        ("container", pa.string()),
        ("etag", pa.string()),
        ("reader", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("stream", pa.int64()),
        ("column", pa.string()),
        ("problem", pa.string()),
    ]
)
# The columns of listings and shards. ``member`` is null for a whole file; no table has it.
LISTING_SCHEMA = pa.schema([*REFERENCE_SCHEMA, pa.field("member", MEMBER_TYPE)])


@dataclass(frozen=True, slots=True)
class ImageReference:
    """One image of a source, without its bytes: a whole file, or a member of a container."""

    # Absolute path of a local file, otherwise the full URL; of a member CONTAINER::MEMBER.
    uri: str
    # Changes when the image does; "" where the source knows none.
    etag: str
    # Bytes of the encoded image; -1 where unknown.
    size: int
    # UTC.
    modified: datetime | None
    # None for a whole file.
    member: Member | None = None

    @property
    def location(self) -> str:
        """Path or URL of the file that holds the bytes."""
        return self.uri if self.member is None else self.member.container


def references_of(images: pa.Table) -> list[ImageReference]:
    """Return the rows of a listing (LISTING_SCHEMA), or of a table (REFERENCE_SCHEMA)."""
    columns = [images[name].to_pylist() for name in REFERENCE_SCHEMA.names]
    whole = [ImageReference(*row) for row in zip(*columns, strict=True)]
    if "member" not in images.column_names:
        return whole
    members = images["member"].to_pylist()
    return [
        replace(image, member=Member(**member)) if member else image
        for image, member in zip(whole, members, strict=True)
    ]
