"""List the members of a container, and keep them as the index of this version of the container.

An unchanged container is not read again: its etag leads to its index.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass

import pyarrow as pa

from transforms import parquet
from transforms.containers.base import ContainerDamaged, Found
from transforms.containers.bytes import ContainerFile
from transforms.containers.kinds import Kind
from transforms.file_names import Ignored, is_image_name
from transforms.records import LISTING_SCHEMA, MEMBER_TYPE
from transforms.storage import NotFound, Storage

# Between a container and a member in a uri.
SEPARATOR = "::"
# The folder of the indexes in the output.
FOLDER = "containers"
# Raised when an index of the version before would be wrong.
_VERSION = 1
# What a member's etag says of the column that the user chose.
_COLUMN = ";column="
# The reader of rows whose image is a file of its own, named by its path.
PATH = "path"
_NOTE = b"image-features.container"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexes:
    """Where the indexes of containers are kept."""

    output: Storage
    # Keep new ones too; a dry run only reads.
    write: bool = True


def list_members(
    file: ContainerFile,
    kind: Kind,
    ignored: Ignored,
    column: str | None = None,
    indexes: Indexes | None = None,
) -> pa.Table:
    """Return the images in a container (LISTING_SCHEMA), in the order of their bytes.

    Damage costs what comes after it: one more row, with the container's own uri, says why.

    Args:
        file: The container.
        kind: Its kind.
        ignored: Counts the other members.
        column: Column or feature of the images' bytes; None to find it.
        indexes: Where to look for the members, and to keep them.

    Raises:
        UserError: The column does not exist, or has to be named.
        StorageError: The container cannot be read.
    """
    key = _key(file.uri, column)
    found = _load(indexes, key, file) if indexes else None
    if found is None:
        own = Ignored()
        images = _images(file, kind, own, column)
        if indexes and indexes.write:
            _save(indexes.output, key, file, images, own)
    else:
        images, own = found
    ignored.add(own)
    return images


def _images(file: ContainerFile, kind: Kind, ignored: Ignored, column: str | None) -> pa.Table:
    members: dict[str, Found] = {}
    damage = None
    try:
        for found in kind.find(file, ignored, column):
            if kind.has_names and not _takes(found.name, ignored):
                continue
            if found.name in members:
                ignored.repeated += 1
                # Last in the order of the bytes too.
                del members[found.name]
            members[found.name] = found
    except ContainerDamaged as error:
        damage = error.problem
    chosen = f"{_COLUMN}{column}" if column else ""
    rows = [_row(file, kind.reader, found, chosen) for found in members.values()]
    if damage:
        member = _member(file, kind.reader, Found("", 0, 0, 0, problem=damage))
        rows.append((file.uri, file.etag, file.size, file.modified, member))
    columns = zip(*rows, strict=True) if rows else [[]] * len(LISTING_SCHEMA)
    arrays = [
        pa.array(list(column), field.type)
        for column, field in zip(columns, LISTING_SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=LISTING_SCHEMA)


def _takes(name: str, ignored: Ignored) -> bool:
    """Tell whether a member has the name of an image; count it otherwise."""
    folder, _, base = name.rpartition("/")
    if any(part.startswith(".") and part not in (".", "..") for part in folder.split("/")):
        ignored.hidden += 1
        return False
    if is_image_name(base):
        return True
    ignored.count(base)
    return False


def column_in(etag: str) -> str | None:
    """Return the column that the user chose, which is part of a member's etag."""
    return etag.partition(_COLUMN)[2] or None


def _row(file: ContainerFile, reader: str, found: Found, chosen: str) -> tuple[object, ...]:
    if found.path is not None:
        # Its etag and size are asked for every night.
        return found.path, "", -1, None, _member(file, PATH, found)
    uri = f"{file.uri}{SEPARATOR}{found.name}"
    etag = (found.etag or f"{file.etag}:{found.offset:x}") + chosen
    return uri, etag, found.size, file.modified, _member(file, reader, found)


def _member(file: ContainerFile, reader: str, found: Found) -> dict[str, object]:
    values = (
        file.uri,
        file.etag,
        reader,
        found.offset,
        found.length,
        found.stream,
        found.column,
        found.problem,
    )
    return dict(zip((field.name for field in MEMBER_TYPE), values, strict=True))


def _key(uri: str, column: str | None) -> str:
    """Return the key of a container's index; a new version of the container replaces it."""
    return f"{FOLDER}/{hashlib.sha256(json.dumps([uri, column]).encode()).hexdigest()[:32]}.parquet"


def _note(file: ContainerFile, ignored: Ignored) -> dict[str, object]:
    return {
        "version": _VERSION,
        "uri": file.uri,
        "etag": file.etag,
        "size": file.size,
        "ignored": asdict(ignored),
    }


def _save(
    output: Storage, key: str, file: ContainerFile, images: pa.Table, ignored: Ignored
) -> None:
    metadata = {_NOTE: json.dumps(_note(file, ignored)).encode()}
    output.write(key, parquet.encode(images.replace_schema_metadata(metadata)), durable=False)


def _load(indexes: Indexes, key: str, file: ContainerFile) -> tuple[pa.Table, Ignored] | None:
    """Return the kept members of this version of the container, and what was ignored in it."""
    try:
        encoded = indexes.output.read(key)
    except NotFound:
        return None
    try:
        note = json.loads(parquet.read_metadata(encoded)[_NOTE])
        ignored = Ignored(**note["ignored"])
        if note != _note(file, ignored):
            return None
        images = parquet.read(encoded).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("the index %s cannot be read (%s); the container is read again", key, error)
        return None
    return images, ignored
