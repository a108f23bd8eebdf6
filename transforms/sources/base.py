"""What every source can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass
class Ignored:
    """What a listing has passed over."""

    other: int = (
        # Files without an image extension, and what is no file (sockets, pipes, devices)
        0
    )
    # Files with a dot before their name; into such folders nobody looks
    hidden: int = 0
    links: int = (
        # Symbolic links to folders, and to files outside the tree, which are not followed
        0
    )

    @property
    def total(self) -> int:
        """All of them."""
        return self.other + self.hidden + self.links


class Source(Protocol):
    """Some of the images that an input names.

    The driver parses it, cuts it into pieces, and sends the pieces to workers: it is small, frozen,
    and can be pickled. Its methods look at what is there, and raise ``UserError`` for a local path
    that does not exist, and ``StorageError``.
    """

    def split(self) -> Sequence[Source]:
        """Cut into pieces that workers can list at the same time: at least one, together exactly these images."""

    def list_images(self, ignored: Ignored | None = None) -> Iterator[pa.RecordBatch]:
        """List the images.

        An image that a list names twice is listed twice. What a list names and what does not exist
        is listed too, with etag "" and size -1, so that it ends as a failure.

        Args:
            ignored: Counts what a folder or prefix holds besides images.

        Yields:
            Batches of REFERENCE_SCHEMA with up to 10,000 rows, none of them empty.
        """

    def nothing_found(self) -> str:
        """Say what was looked for, for the error about a source without images."""
