"""Define what every source can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from transforms.containers.index import Indexes
from transforms.file_names import Ignored


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

    def list_images(
        self, ignored: Ignored | None = None, indexes: Indexes | None = None
    ) -> Iterator[pa.RecordBatch]:
        """List the images.

        An image that a list names twice is listed twice. A named image that does not exist is
        listed too, with etag "" and size -1, so that it ends as a failure.

        Args:
            ignored: Counts the other entries of a folder, prefix or container.
            indexes: Where the members of containers are kept from night to night.

        Yields:
            Batches of LISTING_SCHEMA, or of REFERENCE_SCHEMA for whole files, with up to 10,000
            rows, none of them empty.
        """

    def nothing_found(self) -> str:
        """Return what was looked for, for the error about a source without images."""
