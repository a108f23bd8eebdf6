"""Lists: named images, one a line, and single files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa

from transforms.buckets import Bucket, NotFound, PermissionDenied, Unaddressable
from transforms.errors import UserError
from transforms.sources.batches import Row, local_row, to_batches, unknown_row
from transforms.storage import local_path
from transforms.urls import ALLOWED, parse_url, scheme_of

_PIECE = 10_000  # entries of one piece
_REQUESTS = 64  # to buckets at once: they only ask for size and etag
_FILES = 8  # local files at once: 64 threads at a warm disk take 27 to 50 µs a name, because of Python's lock, not 7


@dataclass(frozen=True, slots=True)
class Entries:
    """Images that are named one by one."""

    text: str  # as the user wrote it
    uris: tuple[str, ...]  # absolute paths and full URLs


def parse_list(text: str) -> Entries:
    """Read ``list:FILE`` or ``list:-`` (standard input): UTF-8, one path or URL a line.

    Empty lines are left out, and that is all: there are no comments and no wildcards, so a name may hold
    any character but a line break. A relative path starts from the current folder, as for every program.
    A list that lies in a bucket may only name objects of the same bucket: who can write it reads nothing else by us.
    Raises ``UserError`` naming the line.
    """
    name = text.removeprefix("list:")
    home = "" if name == "-" or scheme_of(name) in ("", "file") else Bucket(*parse_url(name)[:2]).url()
    try:
        lines = _read(name).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{text}: a list has to be UTF-8 text, one path or URL a line") from error
    uris = []
    for number, line in enumerate(lines, 1):
        if entry := line.removesuffix("\r"):
            try:
                uris.append(_entry(entry, home))
            except UserError as error:
                raise UserError(f"{text}, line {number}: {error}") from error
    if not uris:
        raise UserError(f"{text} names no image; give one path or URL a line")
    return Entries(text, tuple(uris))


def split_entries(entries: Entries) -> list[Entries]:
    """Cut a long list into lists of 10,000."""
    uris = entries.uris
    return [replace(entries, uris=uris[start : start + _PIECE]) for start in range(0, len(uris), _PIECE)]


def list_entries(entries: Entries) -> Iterator[pa.RecordBatch]:
    """List the entries in their order, each once for every line, with etag and size where they can be had."""
    threads = _REQUESTS if any(map(scheme_of, entries.uris)) else _FILES
    with ThreadPoolExecutor(threads) as pool:
        for piece in split_entries(entries):
            size = min(64, 1 + len(piece.uris) // (4 * threads))  # a task for each local file would be its main cost
            groups = [piece.uris[start : start + size] for start in range(0, len(piece.uris), size)]
            yield from to_batches(chain.from_iterable(pool.map(_look_at_all, groups)))


def _look_at_all(uris: Sequence[str]) -> list[Row]:
    return [_look(uri) for uri in uris]


def _look(uri: str) -> Row:
    if not scheme_of(uri):
        try:
            return local_row(uri, os.stat(uri))  # noqa: PTH116  (a Path takes as long as the call)
        except OSError:
            return local_row(uri, None)
    scheme, name, key = parse_url(uri)
    try:
        found = Bucket(scheme, name).head(key)
    except (NotFound, PermissionDenied, Unaddressable):
        return unknown_row(uri)  # reading it will say why
    if found is None:
        return unknown_row(uri)
    modified = round(found.modified.timestamp() * 1e6) if found.modified else None
    return uri, found.etag, found.size, modified


def _entry(entry: str, home: str) -> str:
    """Return the absolute path or full URL that a line names; it has to begin with ``home``."""
    path = local_path(entry)
    if not entry.startswith(home):
        raise UserError(
            f"{entry!r}: a list in a bucket may only name objects of the same bucket, {home}…. If you trust who "
            "writes it, read it from this machine: copy it here, or give it to list:-"
        )
    if path is not None:
        return str(path)
    if not parse_url(entry)[2]:
        raise UserError(f"{entry!r} names no object; allowed: {ALLOWED}")
    return entry


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    path = local_path(name)
    if path is None:
        scheme, bucket, key = parse_url(name)
        return Bucket(scheme, bucket).get(key)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the list {path}: {error.strerror}") from error
