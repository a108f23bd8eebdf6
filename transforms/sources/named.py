"""Find out whether a path, URL or glob names a file, a folder or a pattern."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms.containers.base import WHATEVER, Wanted
from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.file_names import IMAGE_EXTENSIONS, Ignored, is_container_name
from transforms.sources.base import Source
from transforms.sources.containers import Containers, missing_container
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
    # What to take from containers.
    wanted: Wanted = WHATEVER

    def split(self) -> Sequence[Source]:
        return self._look().split()

    def list_images(
        self, ignored: Ignored | None = None, indexes: Indexes | None = None
    ) -> Iterator[pa.RecordBatch]:
        return self._look().list_images(ignored, indexes)

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
            plain = os.path.isfile(place) if local else True  # noqa: PTH113
            if place.lower().endswith(IMAGE_EXTENSIONS) or not plain:
                return Entries(text, (place,), self.stores)
            return Containers(text, (place,), self.stores, self.wanted)
        if has_wildcards(place):
            return self._glob(local)
        if local:
            raise UserError(f"there is no file or folder {place}")
        return self._prefix(place.rstrip("/"))

    def _prefix(self, place: str) -> Tree:
        """Return the objects below a prefix; one named like a container has to hold some."""
        scheme, name, key = parse_url(place)
        if (
            is_container_name(key)
            and next(Bucket(scheme, name, self.stores).pages(key, 1), None) is None
        ):
            raise missing_container(self.text, f"{place} is not there")
        return Tree(self.text, place, stores=self.stores)

    def _glob(self, local: bool) -> Source:
        """Return what a glob matches: containers if it ends like their names."""
        place = self.place
        root, pattern = split_pattern(place, os.path.isdir) if local else split_pattern(place)
        tree = Tree(self.text, root or "/", pattern, images_only=False, stores=self.stores)
        if not is_container_name(pattern):
            return tree
        uris = [uri for batch in tree.list_images() for uri in batch["uri"].to_pylist()]
        return Containers(self.text, tuple(uris), self.stores, self.wanted) if uris else tree

    def _is_object(self) -> bool:
        """Tell whether an object has just this name, and is not an empty one marking a folder."""
        scheme, name, key = parse_url(self.place)
        if not key or key.endswith("/"):
            return False
        bucket = Bucket(scheme, name, self.stores)
        found = bucket.head(key)
        return found is not None and (found.size > 0 or next(bucket.pages(key, 1), None) is None)
