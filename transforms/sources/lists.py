"""List images that are named one by one: the lines of a list, or a single file."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import pyarrow as pa

from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.file_names import Ignored
from transforms.sources.batches import Row, local_row, to_batches, unknown_row
from transforms.storage import local_path
from transforms.storage.base import NotFound, PermissionDenied, Unaddressable
from transforms.storage.bucket import Bucket
from transforms.storage.settings import Stores
from transforms.storage.urls import ALLOWED, parse_url, scheme_of

# Entries of one piece.
_PIECE = 10_000
# Concurrent requests to a bucket; they only ask for size and etag.
LOOKS = 64
# Local files that are looked at concurrently. On a warm disk 64 threads take 27 to 50 µs per name,
# because of Python's lock; 8 threads take 7 µs.
_FILES = 8


@dataclass(frozen=True, slots=True)
class Entries:
    """Images that are named one by one."""

    # As the user wrote it.
    text: str
    # Absolute paths and full URLs.
    uris: tuple[str, ...]
    stores: Stores = ()

    def split(self) -> list[Entries]:
        """Cut a long list into lists of 10,000."""
        uris = self.uris
        return [
            replace(self, uris=uris[start : start + _PIECE])
            for start in range(0, len(uris), _PIECE)
        ]

    def list_images(
        self, ignored: Ignored | None = None, indexes: Indexes | None = None
    ) -> Iterator[pa.RecordBatch]:
        """List the entries in their order, one row per line, with etag and size if available."""
        threads = LOOKS if any(map(scheme_of, self.uris)) else _FILES
        look = partial(look_up, self.stores)
        with ThreadPoolExecutor(threads) as pool:
            for piece in self.split():
                # Group names: one task per name would cost more than looking at a local file.
                size = min(64, 1 + len(piece.uris) // (4 * threads))
                groups = [
                    piece.uris[start : start + size] for start in range(0, len(piece.uris), size)
                ]
                rows = pool.map(lambda group: [look(uri) for uri in group], groups)
                yield from to_batches(chain.from_iterable(rows))

    def nothing_found(self) -> str:
        return f"{self.text} names no image"


def parse_list(text: str, stores: Stores = ()) -> Entries:
    """Read a list: UTF-8 text, one path or URL per line.

    Empty lines are skipped. There are no comments and no wildcards, so a name may hold any
    character but a line break. Relative paths start from the current folder. A list in a bucket may
    only name objects of the same bucket, so that whoever can write the list cannot have us read
    anything else.

    Args:
        text: ``list:FILE``, ``list:URL`` or ``list:-`` (standard input).
        stores: Where buckets are.

    Raises:
        UserError: For an invalid entry, naming its line; and for a list without entries, one that
            cannot be read, or one that is not UTF-8.
    """
    name = text.removeprefix("list:")
    home = "" if name == "-" else home_of(name)
    try:
        lines = _read(name, stores).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{text}: a list has to be UTF-8 text, one path or URL a line") from error
    uris = []
    for number, line in enumerate(lines, 1):
        if entry := line.removesuffix("\r"):
            try:
                uris.append(absolute_entry(entry, home))
            except UserError as error:
                raise UserError(f"{text}, line {number}: {error}") from error
    if not uris:
        raise UserError(f"{text} names no image; give one path or URL a line")
    return Entries(text, tuple(uris), stores)


def look_up(stores: Stores, uri: str) -> Row:
    """Return the row of an image by its uri, with etag and size if the storage tells them."""
    if not scheme_of(uri):
        try:
            return local_row(uri, os.stat(uri))  # noqa: PTH116  (a Path takes as long as the call)
        except OSError:
            return local_row(uri, None)
    scheme, name, key = parse_url(uri)
    try:
        found = Bucket(scheme, name, stores).head(key)
    except (NotFound, PermissionDenied, Unaddressable):
        # Reading the image will give the reason.
        return unknown_row(uri)
    if found is None:
        return unknown_row(uri)
    modified = round(found.modified.timestamp() * 1e6) if found.modified else None
    return uri, found.etag, found.size, modified


def home_of(name: str) -> str:
    """Return what all entries of a list have to start with: its bucket; "" for a local list."""
    return "" if scheme_of(name) in ("", "file") else Bucket(*parse_url(name)[:2]).url()


def absolute_entry(entry: str, home: str) -> str:
    """Return the absolute path or full URL that a line names; it must start with ``home``."""
    path = local_path(entry)
    if not entry.startswith(home):
        raise UserError(
            f"{entry!r}: a list or manifest in a bucket may only name objects of the same bucket, "
            f"{home}…. If you trust who writes it, read it from this machine: copy it here, or "
            "give a list to list:-"
        )
    if path is not None:
        return str(path)
    if not parse_url(entry)[2]:
        raise UserError(f"{entry!r} names no object; allowed: {ALLOWED}")
    return entry


def entry_below(entry: str, file: str) -> str:
    """Return the absolute path or full URL that a file names.

    Args:
        entry: What it names; a relative path starts from the file's own folder.
        file: Path or URL of the file. One in a bucket may only name objects of the same bucket.

    Raises:
        UserError: The entry is invalid, or not allowed.
    """
    if not entry or scheme_of(entry) or entry.startswith("/"):
        return absolute_entry(entry, home_of(file))
    path = local_path(file)
    if path is not None:
        return absolute_entry(f"{path.parent}/{entry}", "")
    relative = posixpath.normpath(entry)
    if relative.startswith(".."):
        raise UserError(f"{entry!r} leads out of the folder of {file}")
    return absolute_entry(f"{file.rpartition('/')[0]}/{relative}", home_of(file))


def _read(name: str, stores: Stores) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    path = local_path(name)
    if path is None:
        scheme, bucket, key = parse_url(name)
        return Bucket(scheme, bucket, stores).get(key)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the list {path}: {error.strerror}") from error
