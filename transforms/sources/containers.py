"""List the members of containers, one container to a piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from transforms.containers.base import WHATEVER, Wanted
from transforms.containers.bytes import open_container
from transforms.containers.index import Indexes, list_members
from transforms.containers.members import PATH
from transforms.errors import UserError
from transforms.file_names import Ignored, is_container_name
from transforms.sources.batches import BATCH_ROWS
from transforms.sources.lists import Entries, entry_below
from transforms.storage import NotFound, PermissionDenied
from transforms.storage.settings import Stores


@dataclass(frozen=True, slots=True)
class Containers:
    """Files that hold images, if their content is that of a container; others are images."""

    # As the user wrote it.
    text: str
    # Absolute paths and full URLs.
    uris: tuple[str, ...]
    stores: Stores = ()
    wanted: Wanted = WHATEVER

    def split(self) -> list[Containers]:
        return [replace(self, uris=(uri,)) for uri in self.uris]

    def list_images(
        self, ignored: Ignored | None = None, indexes: Indexes | None = None
    ) -> Iterator[pa.RecordBatch]:
        """List the images of each container in the order of their bytes."""
        ignored = Ignored() if ignored is None else ignored
        for uri in self.uris:
            images = self._members(uri, ignored, indexes)
            if images is None:
                yield from Entries(self.text, (uri,), self.stores).list_images(ignored)
            else:
                named = pc.equal(pc.struct_field(images["member"], "reader"), PATH)
                held = images.filter(pc.invert(named))
                yield from held.to_batches(max_chunksize=BATCH_ROWS)
                paths = images.filter(named)["uri"].to_pylist()
                if paths:
                    yield from self._named_by(uri, paths).list_images(ignored)

    def _named_by(self, container: str, paths: list[str]) -> Entries:
        """Return the files that rows of a container name, under the rules of lists."""
        try:
            uris = [entry_below(path, container) for path in paths]
        except UserError as error:
            raise UserError(f"{container}: {error}") from error
        return Entries(self.text, tuple(uris), self.stores)

    def _members(self, uri: str, ignored: Ignored, indexes: Indexes | None) -> pa.Table | None:
        """Return the images in a container; None for another file."""
        try:
            with open_container(uri, self.stores) as file:
                return list_members(file, ignored, self.wanted, indexes)
        except (NotFound, PermissionDenied) as error:
            if is_container_name(uri):
                # Its images would look removed.
                raise UserError(f"--input {self.text}: {error}") from error
            return None

    def nothing_found(self) -> str:
        return f"{self.text} holds no image"
