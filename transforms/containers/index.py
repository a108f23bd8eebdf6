"""Keep the members of a container as the index of this version of the container.

An unchanged container is not read again: its etag leads to its index.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass

import pyarrow as pa

from transforms import parquet
from transforms.containers.base import Wanted
from transforms.containers.bytes import ContainerFile
from transforms.containers.kinds import kind_of
from transforms.containers.members import find_members
from transforms.file_names import Ignored
from transforms.records import LISTING_SCHEMA
from transforms.storage import NotFound, Storage

# The folder of the indexes in the output.
FOLDER = "containers"
# Raised when an index of the version before would be wrong.
_VERSION = 1
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
    ignored: Ignored,
    wanted: Wanted,
    indexes: Indexes | None = None,
) -> pa.Table | None:
    """Return the images in a container (LISTING_SCHEMA), in the order of their bytes.

    No byte of a container with an index is read. None stands for a file that is no container.

    Damage costs what comes after it: one more row, with the container's own uri, says why.

    Args:
        file: The container.
        ignored: Counts the other members.
        wanted: Column of the bytes, and the columns to carry.
        indexes: Where to look for the members, and to keep them.

    Raises:
        UserError: The column does not exist, or has to be named.
        StorageError: The container cannot be read.
    """
    key = _key(file.uri, wanted)
    # Without an etag nothing tells this version from another one of the same size.
    indexes = indexes if file.etag else None
    found = _load(indexes, key, file) if indexes else None
    if found is None:
        kind = kind_of(file)
        if kind is None:
            return None
        own = Ignored()
        images = find_members(file, kind, own, wanted)
        if indexes and indexes.write:
            _save(indexes.output, key, file, images, own)
    else:
        images, own = found
    ignored.add(own)
    return images


def _key(uri: str, wanted: Wanted) -> str:
    """Return the key of a container's index; a new version of the container replaces it."""
    name = json.dumps([uri, wanted.column, sorted(wanted.carry.names)])
    return f"{FOLDER}/{hashlib.sha256(name.encode()).hexdigest()[:32]}.parquet"


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
    return (images, ignored) if images.schema.equals(LISTING_SCHEMA) else None
