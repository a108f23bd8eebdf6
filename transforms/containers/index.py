"""List the members of a container, and keep them as the index of this version of the container.

An unchanged container is not read again: its etag leads to its index.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from transforms import parquet
from transforms.carried import Carry, parse
from transforms.containers.base import ContainerDamaged, Found, Wanted
from transforms.containers.bytes import ContainerFile
from transforms.containers.kinds import Kind, kind_of
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
    found = _load(indexes, key, file) if indexes else None
    if found is None:
        kind = kind_of(file)
        if kind is None:
            return None
        own = Ignored()
        images = _images(file, kind, own, wanted)
        if indexes and indexes.write:
            _save(indexes.output, key, file, images, own)
    else:
        images, own = found
    ignored.add(own)
    return images


def _images(file: ContainerFile, kind: Kind, ignored: Ignored, wanted: Wanted) -> pa.Table:
    members: dict[str, Found] = {}
    notes: dict[str, dict[str, Any]] = {}
    damage = None
    try:
        for found in kind.find(file, ignored, wanted):
            if kind.has_names and not _takes(found.name, ignored):
                if found.note is not None:
                    notes.setdefault(_stem(found.name), {}).update(_values(found))
                continue
            if found.name in members:
                ignored.repeated += 1
                # Last in the order of the bytes too.
                del members[found.name]
            members[found.name] = found
    except ContainerDamaged as error:
        damage = error.problem
    rows = [
        _row(file, kind.reader, _with_notes(found, notes, wanted.carry), wanted.column)
        for found in members.values()
    ]
    if damage:
        member = _member(file, kind.reader, Found("", 0, 0, 0, problem=damage))
        rows.append((file.uri, file.etag, file.size, file.modified, member, None, None))
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


def _row(file: ContainerFile, reader: str, found: Found, column: str | None) -> tuple[object, ...]:
    if found.path is not None:
        # Its etag and size are asked for every night.
        return found.path, "", -1, None, _member(file, PATH, found), found.source, None
    uri = f"{file.uri}{SEPARATOR}{found.name}"
    etag = found.etag or f"{file.etag}:{found.offset:x}"
    etag += f"{_COLUMN}{column}" if column else ""
    member = _member(file, reader, found)
    return uri, etag, found.size, file.modified, member, found.source, None


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


def _stem(name: str) -> str:
    """Return what WebDataset joins files by: the name up to the first dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _values(found: Found) -> dict[str, Any]:
    """Return what a file says about an image: the fields of a .json, or the text of another."""
    extension = found.name.rpartition(".")[2].lower()
    if extension == "json":
        return parse(found.note or b"") or {}
    text = (found.note or b"").decode("utf-8", "backslashreplace").strip()
    if extension == "cls" and text.isascii() and text.isdigit() and len(text) < 19:
        return {extension: int(text)}
    return {extension: text}


def _with_notes(found: Found, notes: Mapping[str, dict[str, Any]], carry: Carry) -> Found:
    values = notes.get(_stem(found.name)) if carry else None
    return found._replace(source=carry.encode(values)) if values else found


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
