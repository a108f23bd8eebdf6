"""Write: rows → one Parquet part, and last the receipt that says the shard is done."""

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
from transforms.storage import NotFound, Storage

# The columns whose least and greatest value Delta's log has
BOUNDED = ("uri", "recipe", "run_id")
# In each part's Parquet metadata: the file explains itself
RECIPE_KEY = b"image-features.recipe"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a table, with what Delta's log wants to know of it."""

    path: str  # relative to the table
    size: int  # bytes
    rows: int
    # Per column, of the columns worth skipping files by
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
    """Says that a shard is done: every one of its references is a row of the part or a failure."""

    shard: str
    references: int
    # None when no image of the shard has a vector
    part: Part | None
    failures: tuple[FailureRow, ...]
    bytes_read: int
    # Per stage: read, decode, embed, reuse, write
    seconds: dict[str, float]
    # Of the part's rows: their vectors were there already
    reused: int = 0

    @property
    def rows(self) -> int:
        """How many images have a vector."""
        return self.part.rows if self.part else 0


def write_part(storage: Storage, table: pa.Table, folder: str, name: str, recipe: Recipe) -> Part:
    """Write ``table`` sorted by uri as ``folder/name-<digest>.parquet``.

    The digest of the content in the name keeps two workers with the same shard out of each other's
    way: equal results are one file, different ones two, and each receipt names its own.
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
    """What a part's name says of its content: the first 12 hexadecimal digits of its sha256."""
    return hashlib.sha256(encoded).hexdigest()[:12]


def read_part(storage: Storage, path: str) -> bytes:
    """Read a part whole, to use what it holds.

    Raises ``Damaged`` when it is not there, or when its bytes are not those that its name tells of.
    """
    part = f"part {path} of {storage.url}"
    try:
        encoded = storage.read(path)
    except NotFound as error:
        raise Damaged(f"{part} is not there any more") from error
    if not path.endswith(f"-{digest(encoded)}.parquet"):
        raise Damaged(
            f"{part} is damaged: its bytes have the digest {digest(encoded)}, and its name says "
            "another"
        )
    return encoded


def encode_part(table: pa.Table, recipe: Recipe) -> bytes:
    """Parquet with zstd, without dictionary and statistics for the vector, where they only cost."""
    metadata = {**(table.schema.metadata or {}), RECIPE_KEY: canonical_json(recipe).encode()}
    scalars = [
        name
        for name in table.column_names
        if name not in ("embedding", "uri", "content_sha256", "etag")
    ]
    return parquet.encode(
        table.replace_schema_metadata(metadata),
        use_dictionary=[name for name in scalars if name != "labels"],
        write_statistics=[*scalars, "uri"],
    )


def read_recipe(encoded: bytes) -> Recipe:
    """The recipe that a part was made with, from its own metadata."""
    recipe: Recipe = json.loads(parquet.read_metadata(encoded)[RECIPE_KEY])
    return recipe


def encode_receipt(receipt: Receipt) -> bytes:
    """The receipt as JSON."""
    return json.dumps(asdict(receipt), ensure_ascii=False).encode()


def read_receipt(storage: Storage, key: str) -> Receipt | None:
    """Read a receipt; None, and a line that names it, when it cannot be read: its shard is done again."""
    try:
        return decode_receipt(storage.read(key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning("the receipt %s cannot be read (%s); its shard is done again", key, error)
        return None


def decode_receipt(data: bytes) -> Receipt:
    """Read a receipt back."""
    fields: dict[str, Any] = json.loads(data)
    part = fields.pop("part")
    failures = tuple(FailureRow(**row) for row in fields.pop("failures"))
    return Receipt(part=Part(**part) if part else None, failures=failures, **fields)
