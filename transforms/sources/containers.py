"""List the members of containers, one container to a piece."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from transforms.containers.base import WHATEVER, Wanted
from transforms.containers.bytes import open_container
from transforms.containers.index import Indexes, list_members
from transforms.containers.members import PATH, SEPARATOR
from transforms.errors import FailureKind, UserError
from transforms.file_names import Ignored, is_container_name
from transforms.records import LISTING_SCHEMA, MEMBER_TYPE
from transforms.sources.batches import BATCH_ROWS, to_batches, unknown_row
from transforms.sources.lists import LOOKS, Entries, entry_below, look_up
from transforms.storage import NotFound, PermissionDenied
from transforms.storage.settings import Stores
from transforms.storage.urls import scheme_of


def missing_container(text: str, what: str) -> UserError:
    """Return the error for a container that cannot be read: its images would look removed.

    Args:
        text: The input.
        what: What was seen.
    """
    return UserError(
        f"--input {text}: {what}. Correct the name, or leave this container out: then the rows of "
        "its images are removed"
    )


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
                for batch in images.filter(named).to_batches(max_chunksize=BATCH_ROWS):
                    yield self._named_by(uri, batch)

    def _named_by(self, container: str, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Look at the files that rows of a container name, under the rules of lists.

        A row that may not name its file becomes a failure. A container on this machine names files
        of this machine only: somebody else may have made it.
        """
        uris: list[str] = []
        members: list[dict[str, object] | None] = []
        for path, member in zip(rows["uri"].to_pylist(), rows["member"].to_pylist(), strict=True):
            try:
                if not scheme_of(container) and scheme_of(path):
                    raise UserError(f"{path!r}: a local container may only name local files")
                uris.append(entry_below(path, container))
                members.append(None)
            except UserError as error:
                uris.append(f"{container}{SEPARATOR}{member['offset']:06d}")
                members.append({**member, "problem": f"{FailureKind.UNSUPPORTED.word}: {error}"})
        look = partial(look_up, self.stores)
        with ThreadPoolExecutor(LOOKS) as pool:
            found = pool.map(
                lambda uri, member: unknown_row(uri) if member else look(uri), uris, members
            )
            (batch,) = to_batches(found)
        place = LISTING_SCHEMA.get_field_index("member")
        kept = [*batch.columns, pa.array(members, MEMBER_TYPE), *rows.columns[place + 1 :]]
        return pa.RecordBatch.from_arrays(kept, schema=LISTING_SCHEMA)

    def _members(self, uri: str, ignored: Ignored, indexes: Indexes | None) -> pa.Table | None:
        """Return the images in a container; None for another file."""
        try:
            with open_container(uri, self.stores) as file:
                return list_members(file, ignored, self.wanted, indexes)
        except (NotFound, PermissionDenied) as error:
            if is_container_name(uri):
                raise missing_container(self.text, str(error)) from error
            return None

    def nothing_found(self) -> str:
        return f"{self.text} holds no image"
