"""Define what every source can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass
class Ignored:
    """Numbers of entries that a listing ignored."""

    # Files without an image extension, and entries that are no files (sockets, pipes, devices).
    other: int = 0
    # Files whose name starts with a dot. Folders of such names are not listed.
    hidden: int = 0
    # Symbolic links to folders, and to files outside the tree, which are not followed.
    links: int = 0

    @property
    def total(self) -> int:
        """Return the number of all ignored entries."""
        return self.other + self.hidden + self.links

    def count(self, name: str) -> None:
        """Count a file that is no image, by its name."""
        if name.startswith("."):
            self.hidden += 1
        else:
            self.other += 1


class Source(Protocol):
    """Some of the images that an input names.

    The driver parses a source, cuts it into pieces, and sends the pieces to workers. So a source is
    small, frozen, and can be pickled. Its methods look at the files and objects that exist.

    Raises:
        UserError: From any method, for a local path that does not exist.
        StorageError: From any method, if the storage fails.
    """

    def split(self) -> Sequence[Source]:
        """Cut into pieces that workers can list at the same time.

        Returns:
            At least one piece; together they list exactly the images of this source.
        """

    def list_images(self, ignored: Ignored | None = None) -> Iterator[pa.RecordBatch]:
        """List the images.

        An image that a list names twice is listed twice. A named image that does not exist is
        listed too, with etag "" and size -1, so that it ends as a failure.

        Args:
            ignored: Counts the other entries of a folder or prefix.

        Yields:
            Batches of REFERENCE_SCHEMA with up to 10,000 rows, none of them empty.
        """

    def nothing_found(self) -> str:
        """Return what was looked for, for the error about a source without images."""
