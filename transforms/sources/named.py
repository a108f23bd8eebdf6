"""Find out whether a path, URL or glob names a file, a folder or a pattern."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms.errors import UserError
from transforms.sources.base import Ignored, Source
from transforms.sources.globs import has_wildcards, split_pattern
from transforms.sources.lists import Entries
from transforms.sources.trees import Tree
from transforms.storage.bucket import Bucket
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url


@dataclass(frozen=True, slots=True)
class Named:
    """A path, URL or glob that has not been looked at yet."""

    # As the user wrote it.
    text: str
    # Absolute path or URL, maybe with wildcards.
    place: str
    stores: Stores = ()

    def split(self) -> Sequence[Source]:
        return self._look().split()

    def list_images(self, ignored: Ignored | None = None) -> Iterator[pa.RecordBatch]:
        return self._look().list_images(ignored)

    def nothing_found(self) -> str:
        return self._look().nothing_found()

    def _look(self) -> Source:
        """Return the source that the name stands for; a name that exists as it is is no glob."""
        text, place = self.text, self.place
        local = place.startswith("/")
        # Path.is_dir raises if a parent is not readable.
        if local and os.path.isdir(place):  # noqa: PTH112
            return Tree(text, place)
        if os.path.lexists(place) if local else self._is_object():
            return Entries(text, (place,), self.stores)
        if has_wildcards(place):
            root, pattern = split_pattern(place, os.path.isdir) if local else split_pattern(place)
            return Tree(text, root or "/", pattern, images_only=False, stores=self.stores)
        if local:
            raise UserError(f"there is no file or folder {place}")
        return Tree(text, place.rstrip("/"), stores=self.stores)

    def _is_object(self) -> bool:
        """Tell whether an object has just this name, and is not an empty one marking a folder."""
        scheme, name, key = parse_url(self.place)
        if not key or key.endswith("/"):
            return False
        bucket = Bucket(scheme, name, self.stores)
        found = bucket.head(key)
        return found is not None and (found.size > 0 or next(bucket.pages(key, 1), None) is None)
