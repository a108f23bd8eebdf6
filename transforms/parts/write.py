"""Write rows as one Parquet part, and then the receipt that says the shard is done."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from transforms import parquet
from transforms.errors import Damaged
from transforms.recipe import Recipe, canonical_json
from transforms.records import with_new_columns
from transforms.storage import NotFound, Storage

# Columns whose min and max are written to Delta's log.
BOUNDED = ("uri", "recipe", "run_id")
# Key of the recipe in each part's Parquet metadata, so that the file describes itself.
RECIPE_KEY = b"image-features.recipe"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a table, as Delta's log needs to describe it."""

    path: str  # relative to the table
    size: int  # bytes
    rows: int
    # By column, for the columns by which readers can skip files.
    minimum: dict[str, str]
    maximum: dict[str, str]


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One image of a shard that has no vector, and why."""

    uri: str
    etag: str
    size: int
    modified: int | None  # microseconds since 1970, UTC
    stage: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Record that a shard is done: each of its references is a row of the part or a failure."""

    shard: str
    references: int
    # None if no image of the shard has a vector.
    part: Part | None
    failures: tuple[FailureRow, ...]
    bytes_read: int
    # By stage: read, decode, embed, reuse, write.
    seconds: dict[str, float]
    # Number of the part's rows with an existing vector.
    reused: int = 0

    @property
    def rows(self) -> int:
        """Return the number of images that have a vector."""
        return self.part.rows if self.part else 0


def write_part(storage: Storage, table: pa.Table, folder: str, name: str, recipe: Recipe) -> Part:
    """Write a table, sorted by uri, as ``folder/name-<digest>.parquet``.

    The digest keeps two workers with the same shard from overwriting each other: equal results
    become one file, different results become two, and each receipt names its own.

    Args:
        storage: The output, or the table's folder.
        table: At least one row.
        folder: Folder in the storage; "" for the storage itself.
        name: Start of the file name.
        recipe: Recipe, for the Parquet metadata.

    Returns:
        The part, with its path relative to ``folder``.
    """
    table = table.sort_by("uri")
    encoded = encode_part(table, recipe)
    path = f"{name}-{digest(encoded)}.parquet"
    storage.write(f"{folder}/{path}".lstrip("/"), encoded)
    bounds = {column: table[column] for column in BOUNDED}
    return Part(
        path=path,
        size=len(encoded),
        rows=table.num_rows,
        minimum={name: min(column.to_pylist()) for name, column in bounds.items()},
        maximum={name: max(column.to_pylist()) for name, column in bounds.items()},
    )


def digest(encoded: bytes) -> str:
    """Return the content hash in a part's file name: 12 hexadecimal digits of its sha256."""
    return hashlib.sha256(encoded).hexdigest()[:12]


def read_part(storage: Storage, path: str) -> bytes:
    """Return the bytes of a part, after checking them against its name.

    Args:
        storage: The output, or the table's folder.
        path: The part, relative to ``storage``.

    Raises:
        Damaged: If the part is missing, or if its bytes do not have the digest in its name.
    """
    part = f"part {path} of {storage.url}"
    try:
        encoded = storage.read(path)
    except NotFound as error:
        raise Damaged(f"{part} is not there any more") from error
    if not path.endswith(f"-{digest(encoded)}.parquet"):
        raise Damaged(
            f"{part} is damaged: its bytes have the digest {digest(encoded)}, but its name has "
            "another"
        )
    return encoded


def encode_part(table: pa.Table, recipe: Recipe) -> bytes:
    """Encode a table as Parquet with zstd, without dictionary and statistics for the vectors.

    Both would only cost time and space there.

    Args:
        table: The rows.
        recipe: Goes into the metadata.
    """
    metadata = {**(table.schema.metadata or {}), RECIPE_KEY: canonical_json(recipe).encode()}
    scalars = [
        name
        for name in table.column_names
        if name not in ("embedding", "uri", "content_sha256", "etag", "phash")
    ]
    return parquet.encode(
        table.replace_schema_metadata(metadata),
        use_dictionary=[name for name in scalars if name != "labels"],
        write_statistics=[*scalars, "uri"],
    )


def decode_part(encoded: bytes) -> pa.Table:
    """Decode a part; columns that did not exist when it was written are null."""
    return with_new_columns(parquet.read(encoded))


def read_recipe(encoded: bytes) -> Recipe:
    """Return the recipe in a part's metadata."""
    recipe: Recipe = json.loads(parquet.read_metadata(encoded)[RECIPE_KEY])
    return recipe


def encode_receipt(receipt: Receipt) -> bytes:
    """Encode a receipt as JSON."""
    return json.dumps(asdict(receipt), ensure_ascii=False).encode()


def read_receipt(storage: Storage, key: str) -> Receipt | None:
    """Read a receipt.

    Returns:
        The receipt; None, with a warning, if it is invalid, so that its shard is extracted again.
    """
    try:
        return decode_receipt(storage.read(key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning("the receipt %s cannot be read (%s); its shard is done again", key, error)
        return None


def decode_receipt(data: bytes) -> Receipt:
    """Decode a receipt."""
    fields: dict[str, Any] = json.loads(data)
    part = fields.pop("part")
    failures = tuple(FailureRow(**row) for row in fields.pop("failures"))
    return Receipt(part=Part(**part) if part else None, failures=failures, **fields)
