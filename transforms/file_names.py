"""What a listing takes and what it ignores, by the names of files and members."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp"),
    *(".tif", ".tiff", ".webp", ".avif"),
)
CONTAINER_EXTENSIONS = (
    *(".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".zip", ".parquet"),
    *(".tfrecord", ".tfrecords", ".tfrecord.gz", ".tfrecords.gz"),
)
# The way that TensorFlow numbers the files of a set: train-00000-of-00100.
_NUMBERED = re.compile(r"-[\d*?]+-of-[\d*?]+(\.gz)?$")


def is_image_name(name: str) -> bool:
    """Tell whether a file has the name of an image, and is not hidden."""
    return name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".")


def is_container_name(name: str) -> bool:
    """Tell whether a file, or the last part of a glob, has the name of a container."""
    return bool(name.lower().endswith(CONTAINER_EXTENSIONS) or _NUMBERED.search(name))


@dataclass
class Ignored:
    """Numbers of entries that a listing ignored."""

    # Files without an image extension, and entries that are no files (sockets, pipes, devices).
    other: int = 0
    # Files whose name starts with a dot. Folders of such names are not listed.
    hidden: int = 0
    # Links that are not followed: to folders, to files outside the tree, and those in a tar. Sparse
    # files of a tar count here too.
    links: int = 0
    # Members of a container that have the name of a later member.
    repeated: int = 0
    # Containers in a folder or prefix.
    containers: int = 0

    @property
    def total(self) -> int:
        """Return the number of all ignored entries."""
        return self.other + self.hidden + self.links + self.repeated + self.containers

    def count(self, name: str) -> None:
        """Count a file that is no image, by its name."""
        if name.startswith("."):
            self.hidden += 1
        elif is_container_name(name):
            self.containers += 1
        else:
            self.other += 1

    def add(self, more: Ignored) -> None:
        """Add the numbers of another listing."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    def since(self, before: Ignored) -> Ignored:
        """Return the numbers that came after ``before``."""
        return Ignored(*(getattr(self, name) - getattr(before, name) for name in _NUMBERS))


_NUMBERS = tuple(field.name for field in fields(Ignored))
