"""List the images that ``--input`` names, as batches of image references.

To add a kind of source, write a module with a frozen dataclass that implements ``Source``, and have
``parse_input`` or ``Named`` return it.
"""

from __future__ import annotations

import os

from transforms.containers.base import WHATEVER, Wanted
from transforms.errors import UserError
from transforms.file_names import IMAGE_EXTENSIONS, Ignored, is_container_name
from transforms.sources.base import Source
from transforms.sources.containers import Containers
from transforms.sources.globs import compile_pattern, has_wildcards, split_pattern
from transforms.sources.lists import Entries, parse_list
from transforms.sources.manifests import parse_manifest
from transforms.sources.named import Named
from transforms.sources.ranges import expand, has_range
from transforms.storage import local_path
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url

__all__ = ["IMAGE_EXTENSIONS", "Ignored", "Source", "meaning_of", "parse_input"]


def parse_input(
    text: str,
    stores: Stores = (),
    wanted: Wanted = WHATEVER,
    uri_column: str | None = None,
) -> Source:
    """Parse one ``--input``.

    A list or manifest is read at once, from a file, bucket or standard input. Nothing else is
    looked at yet.

    Args:
        text: A folder, prefix, glob, numeric range, file or container, as a path or a URL
            (``file://``, ``s3://``, ``gs://``, ``az://``); or ``list:`` or ``manifest:`` and the
            name of a file.
        stores: Where buckets are.
        wanted: What to take from containers and manifests besides the images.
        uri_column: Column of a manifest that names the images.

    Raises:
        UserError: For an invalid input.
    """
    if text.startswith("list:"):
        return parse_list(text, stores)
    if text.startswith("manifest:"):
        return parse_manifest(text, stores, uri_column, wanted.carry)
    path = local_path(text)
    there = path is not None and os.path.lexists(path)
    if has_range(text) and not there:
        return _numbered(text, stores, wanted)
    if path is None:
        place = text
        parse_url(place)
    else:
        place = f"{path}/" if text.endswith("/") and has_wildcards(text) else str(path)
    if has_wildcards(text) and not there:
        compile_pattern(split_pattern(text)[1])
    return Named(text, place, stores, wanted)


def _numbered(text: str, stores: Stores, wanted: Wanted) -> Source:
    """Return the files that a numeric range stands for: containers, or images."""
    if has_wildcards(text):
        raise UserError(f"{text!r}: give a range or a wildcard, not both")
    names = expand(text)
    uris = tuple(str(local_path(name) or name) for name in names)
    if local_path(text) is None:
        parse_url(text)
    if is_container_name(names[0]):
        return Containers(text, uris, stores, wanted)
    return Entries(text, uris, stores)


def meaning_of(text: str) -> str:
    """Return the normal form of an input: ``cl``, ``cl/`` and ``./cl`` become the same text.

    This looks at no file. A slash after a wildcard stays: such a glob takes folders.
    """
    kind = next((kind for kind in ("list:", "manifest:") if text.startswith(kind)), "")
    name = text.removeprefix(kind)
    if kind and name == "-":
        return text
    path = local_path(name)
    if path is None:
        return kind + (name if has_wildcards(name) or kind else name.rstrip("/"))
    return (
        f"{kind}{path}/"
        if not kind and name.endswith("/") and has_wildcards(name)
        else f"{kind}{path}"
    )
