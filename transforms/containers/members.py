"""Walk through a container, and list its images (LISTING_SCHEMA)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.carried import Carry, parse
from transforms.containers.base import ContainerDamaged, Found, Wanted
from transforms.containers.bytes import ContainerFile
from transforms.containers.kinds import Kind
from transforms.file_names import Ignored, is_image_name
from transforms.records import LISTING_SCHEMA, MEMBER_TYPE

# Between a container and a member in a uri.
SEPARATOR = "::"
# The reader of rows whose image is a file of its own, named by its path.
PATH = "path"
# What a member's etag says of the column that the user chose.
_COLUMN = ";column="


def find_members(file: ContainerFile, kind: Kind, ignored: Ignored, wanted: Wanted) -> pa.Table:
    """Return the images in a container, in the order of their bytes.

    Of members with one name the last one counts, as tar does it. Damage costs what comes after it:
    one more row, with the container's own uri, says why.

    Args:
        file: The container.
        kind: Its kind.
        ignored: Counts the other members.
        wanted: Column of the bytes, and the columns to carry.

    Raises:
        UserError: The column does not exist, or has to be named.
        StorageError: The container cannot be read.
    """
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
                # Its place is that of the last one.
                del members[found.name]
            members[found.name] = found
    except ContainerDamaged as error:
        damage = error.problem
    listed = list(members.values())
    if notes:
        listed = [_with_notes(found, notes, wanted.carry) for found in listed]
    # Members with names of their own have no column.
    images = _table(file, kind.reader, listed, None if kind.has_names else wanted.column)
    if not damage:
        return images
    return pa.concat_tables([images, _damage_row(file, kind.reader, damage)])


def column_in(etag: str) -> str | None:
    """Return the column that the user chose, which is part of a member's etag."""
    return etag.partition(_COLUMN)[2] or None


def _table(
    file: ContainerFile, reader: str, listed: Sequence[Found], column: str | None
) -> pa.Table:
    """Return the members of a container as LISTING_SCHEMA."""
    # By column: a row at a time would take five times as long.
    found = _columns(listed)
    chosen = f"{_COLUMN}{column}" if column else ""
    places = zip(found["etag"], found["offset"], strict=True)
    etags = [f"{etag or f'{file.etag}:{offset:x}'}{chosen}" for etag, offset in places]
    names = pa.array(found["name"], pa.string())
    uris = pc.binary_join_element_wise(f"{file.uri}{SEPARATOR}", names, "")
    readers = pa.repeat(reader, len(listed))
    paths = pa.array(found["path"], pa.string())
    if paths.null_count < len(paths):
        named = pc.is_valid(paths)
        uris, readers = pc.if_else(named, paths, uris), pc.if_else(named, PATH, readers)
        # Its storage is asked every night.
        etags = pc.if_else(named, "", pa.array(etags, pa.string()))
    member = _members(file, readers, found)
    return _listing(file, [uris, etags, found["size"]], member, found["source"])


def _members(
    file: ContainerFile, readers: pa.Array, found: Mapping[str, Sequence[Any]]
) -> pa.StructArray:
    count = len(readers)
    fields = list(MEMBER_TYPE)
    own = [found[field.name] for field in fields[3:]]
    arrays = [pa.array(values, field.type) for values, field in zip(own, fields[3:], strict=True)]
    container, etag = pa.repeat(file.uri, count), pa.repeat(file.etag, count)
    return pa.StructArray.from_arrays([container, etag, readers, *arrays], fields=fields)


def _columns(listed: Sequence[Found]) -> dict[str, Sequence[Any]]:
    """Return the fields of some members, each with its value of every member."""
    values: list[Sequence[Any]] = list(zip(*listed, strict=True))
    return dict(zip(Found._fields, values or [()] * len(Found._fields), strict=True))


def _damage_row(file: ContainerFile, reader: str, damage: str) -> pa.Table:
    """Return the row that says why the rest of a container cannot be read."""
    nothing = _columns([Found("", 0, 0, file.size, problem=damage)])
    member = _members(file, pa.array([reader]), nothing)
    return _listing(file, [[file.uri], [file.etag], [file.size]], member, [None])


def _listing(
    file: ContainerFile, images: Sequence[Any], member: pa.StructArray, sources: Any
) -> pa.Table:
    """Return the table of some images: uris, etags and sizes, members, and carried values."""
    count = len(member)
    modified = pa.scalar(file.modified, LISTING_SCHEMA.field("modified").type)
    columns = [*images, pa.repeat(modified, count), member, sources, [None] * count]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, LISTING_SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=LISTING_SCHEMA)


def _takes(name: str, ignored: Ignored) -> bool:
    """Tell whether a member has the name of an image; count it otherwise."""
    folder, _, base = name.rpartition("/")
    if "." in folder and any(
        part.startswith(".") and part not in (".", "..") for part in folder.split("/")
    ):
        ignored.hidden += 1
        return False
    if is_image_name(base):
        return True
    ignored.count(base)
    return False


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
