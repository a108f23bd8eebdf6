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

# One row per image of a group of near-duplicates. The row of the representative has the cosine 1
# and 0 bits.
GROUPS_SCHEMA = pa.schema(
    [
        pa.field("group", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("representative", pa.string(), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
        # Differing bits of the perceptual hashes; 0 for equal bytes.
        pa.field("hamming", pa.int32(), nullable=False),
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


# Columns of the features table that a run with ``--carry`` adds, after the others.
CARRIED = ("source", "source_hash")


def carried_fields(kind: pa.DataType) -> tuple[pa.Field, pa.Field]:
    """Return the fields of the carried values, whose struct has type ``kind``, and of their hash.

    The hash is 64 bits of the sha256 of the values as JSON: it tells the next run what changed.
    """
    return pa.field(CARRIED[0], kind), pa.field(CARRIED[1], pa.int64())


@dataclass(frozen=True, slots=True)
class Member:
    """Where the bytes of an image lie in a container."""

    # Absolute path or URL of the container.
    container: str
    # Of the container; its bytes are read only while it has this etag.
    etag: str
    # How to get the bytes: "range" as they are, "zip" from an entry of a zip, "parquet" from a row,
    # "path" from the file that a row names, or a compression from its decompressed stream.
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
# The columns of listings and shards. No table has the last three; shards may have TARGETS too.
LISTING_SCHEMA = pa.schema(
    [
        *REFERENCE_SCHEMA,
        # Null for a whole file.
        pa.field("member", MEMBER_TYPE),
        # Carried values as JSON (``transforms.carried``); null without any.
        pa.field("source", pa.string()),
        # The content's sha256, where the table has its vector and only carried values changed.
        pa.field("content", pa.string()),
    ]
)


# Column of the shards of a run with several backbones: ``ImageReference.targets``, int64.
TARGETS = "targets"


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
    # Carried values as JSON.
    source: str | None = None
    # Sha256 of the bytes, where the table has their vector; then they need not be read.
    content: str | None = None
    # Bit mask of the targets that the image is to be done for: 1 is the first one.
    targets: int = 1

    @property
    def location(self) -> str:
        """Path or URL of the file that holds the bytes."""
        return self.uri if self.member is None else self.member.container


def references_of(images: pa.Table) -> list[ImageReference]:
    """Return the rows of a listing (LISTING_SCHEMA), or of a table (REFERENCE_SCHEMA)."""
    listing = "member" in images.column_names
    names = (LISTING_SCHEMA if listing else REFERENCE_SCHEMA).names
    names = [*names, *([TARGETS] if TARGETS in images.column_names else [])]
    columns = {name: images[name].to_pylist() for name in names}
    if listing:
        columns["member"] = [member and Member(**member) for member in columns["member"]]
    return [ImageReference(*row) for row in zip(*columns.values(), strict=True)]
