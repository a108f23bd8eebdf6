"""List the images that ``--input`` names, as batches of image references.

To add a kind of source, write a module with a frozen dataclass that implements ``Source``, and have
``parse_input`` or ``Named`` return it.
"""

from __future__ import annotations

import os

from transforms.sources.base import Ignored, Source
from transforms.sources.globs import compile_pattern, has_wildcards, split_pattern
from transforms.sources.lists import parse_list
from transforms.sources.named import Named
from transforms.sources.trees import IMAGE_EXTENSIONS
from transforms.storage import local_path
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url

__all__ = ["IMAGE_EXTENSIONS", "Ignored", "Source", "meaning_of", "parse_input"]


def parse_input(text: str, stores: Stores = ()) -> Source:
    """Parse one ``--input``.

    A list is read at once, from a file, bucket or standard input. Nothing else is looked at yet.

    Args:
        text: A folder, prefix, glob or file, as a path or a URL (``file://``, ``s3://``, ``gs://``,
            ``az://``); or ``list:`` and the name of a list.
        stores: Where buckets are.

    Raises:
        UserError: For an invalid input.
    """
    if text.startswith("list:"):
        return parse_list(text, stores)
    path = local_path(text)
    if path is None:
        place = text
        parse_url(place)
    else:
        place = f"{path}/" if text.endswith("/") and has_wildcards(text) else str(path)
    if has_wildcards(text) and not (path and os.path.lexists(path)):
        compile_pattern(split_pattern(text)[1])
    return Named(text, place, stores)


def meaning_of(text: str) -> str:
    """Return the normal form of an input: ``cl``, ``cl/`` and ``./cl`` become the same text.

    This looks at no file. A slash after a wildcard stays: such a glob takes folders.
    """
    kind, name = ("list:", text[5:]) if text.startswith("list:") else ("", text)
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
