"""Sources: what ``--input`` names → batches of image references.

A source is parsed once by the driver, cut into pieces and listed by workers; it is small and can be pickled.
To add a kind of source, write a module with a frozen dataclass and its two functions, split and list, and
name them here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from transforms.buckets import Bucket
from transforms.errors import UserError
from transforms.sources.globs import compile_pattern, has_wildcards, split_pattern
from transforms.sources.lists import Entries, list_entries, parse_list, split_entries
from transforms.sources.trees import IMAGE_EXTENSIONS, Ignored, Tree, list_tree, split_tree
from transforms.storage import local_path
from transforms.urls import parse_url

__all__ = [
    "IMAGE_EXTENSIONS",
    "Ignored",
    "Source",
    "list_images",
    "meaning_of",
    "nothing_found",
    "parse_input",
    "split",
]


@dataclass(frozen=True, slots=True)
class Named:
    """A path, URL or glob at which nobody has looked yet."""

    text: str  # as the user wrote it
    place: str  # absolute path or URL, maybe with wildcards


Source = Named | Tree | Entries


def parse_input(text: str) -> Source:
    """Parse a folder, prefix, glob or file (path, ``file://``, ``s3://``, ``gs://``, ``az://``) or ``list:``.

    A list is read, from a file, bucket or standard input; nothing else is looked at yet. Raises ``UserError``
    for what can be none of these.
    """
    if text.startswith("list:"):
        return parse_list(text)
    path = local_path(text)
    if path is None:
        place = text
        parse_url(place)
    else:
        place = f"{path}/" if text.endswith("/") and has_wildcards(text) else str(path)
    if has_wildcards(text) and not (path and os.path.lexists(path)):
        compile_pattern(split_pattern(text)[1])
    return Named(text, place)


def split(source: Source) -> list[Source]:
    """Cut a source into pieces that can be listed at once: at least one, together exactly the same images.

    Looks at what is there. Raises ``UserError`` for a local path that does not exist, ``StorageError``.
    """
    found = _look_at(source)
    return [*(split_tree(found) if isinstance(found, Tree) else split_entries(found))]


def list_images(source: Source, ignored: Ignored | None = None) -> Iterator[pa.RecordBatch]:
    """List a source as batches of REFERENCE_SCHEMA with up to 10,000 rows, none of them empty.

    Adds to ``ignored`` what a folder or prefix holds besides images. An image that two inputs name, or that
    a list names twice, is listed twice. What a list names and what is not there is listed too, with etag ""
    and size -1, so that it ends as a failure. Raises ``UserError`` and ``StorageError``, also later on.
    """
    found = _look_at(source)
    if isinstance(found, Tree):
        return list_tree(found, Ignored() if ignored is None else ignored)
    return list_entries(found)


def nothing_found(source: Source) -> str:
    """Say what was looked for, for the error about a source without images."""
    found = _look_at(source)
    if isinstance(found, Entries):
        return f"{found.text} names no image"
    if not found.images_only:
        return f"nothing matches {found.text}: looked for {found.pattern} in {found.root}"
    extensions = " ".join(IMAGE_EXTENSIONS)
    return (
        f"no image in {found.text}: looked in {found.root} at any depth for {extensions} in any case; "
        "give a glob such as 'folder/**' to take files of any name"
    )


def _look_at(source: Source) -> Tree | Entries:
    """Find out whether a name is a file, a folder or a glob. What exists literally is no glob."""
    if not isinstance(source, Named):
        return source
    text, place = source.text, source.place
    local = place.startswith("/")
    if local and os.path.isdir(place):  # noqa: PTH112  (Path.is_dir raises where a parent is not readable)
        return Tree(text, place)
    if os.path.lexists(place) if local else _is_object(place):
        return Entries(text, (place,))
    if has_wildcards(place):
        root, pattern = split_pattern(place, os.path.isdir) if local else split_pattern(place)
        return Tree(text, root or "/", pattern, images_only=False)
    if local:
        raise UserError(f"there is no file or folder {place}")
    return Tree(text, place.rstrip("/"))


def _is_object(url: str) -> bool:
    """Tell whether there is an object of just this name, and not an empty one that stands for a folder."""
    scheme, name, key = parse_url(url)
    if not key or key.endswith("/"):
        return False
    bucket = Bucket(scheme, name)
    found = bucket.head(key)
    return found is not None and (found.size > 0 or next(bucket.pages(key, 1), None) is None)


def meaning_of(text: str) -> str:
    """What an input names, however it is written: ``cl``, ``cl/`` and ``./cl`` mean the same. Looks at nothing.

    A slash after a wildcard counts: such a glob takes folders.
    """
    kind, name = ("list:", text[5:]) if text.startswith("list:") else ("", text)
    if kind and name == "-":
        return text
    path = local_path(name)
    if path is None:
        return kind + (name if has_wildcards(name) or kind else name.rstrip("/"))
    return f"{kind}{path}/" if not kind and name.endswith("/") and has_wildcards(name) else f"{kind}{path}"
