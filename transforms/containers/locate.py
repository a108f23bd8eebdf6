"""Find members again by their uri, ``CONTAINER::MEMBER``, as tables and people write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from transforms.containers.base import Wanted
from transforms.containers.bytes import open_container
from transforms.containers.index import Indexes, list_members
from transforms.containers.members import SEPARATOR, column_in
from transforms.errors import FailureKind
from transforms.file_names import Ignored
from transforms.records import ImageReference, Member, references_of
from transforms.storage import NotFound, PermissionDenied
from transforms.storage.settings import Stores

# Containers whose members are held at once.
_HELD = 4


def locate(
    references: Sequence[ImageReference],
    stores: Stores = (),
    indexes: Indexes | None = None,
    column: str | None = None,
) -> list[ImageReference]:
    """Add to references that are members of containers where their bytes are now.

    Args:
        references: Images with uris, and etags where they are known.
        stores: Where buckets are.
        indexes: Where the members of containers are kept.
        column: Column of the images' bytes, for references whose etag names none.

    Returns:
        The references in their order. A member that is not in its container any more stays as it
        is, so that it is not found. One that changed gets the problem ``changed``.

    Raises:
        UserError: The column of a container's images has to be named.
        StorageError: A container cannot be read.
    """

    @lru_cache(maxsize=_HELD)
    def members(container: str, column: str | None) -> dict[str, ImageReference] | None:
        return _members(container, column, stores, indexes)

    def find(reference: ImageReference) -> ImageReference:
        chosen = column_in(reference.etag) or column
        for container in _containers(reference.uri):
            there = members(container, chosen)
            if there is not None:
                now = there.get(reference.uri)
                return _joined(reference, now) if now else reference
        return reference

    return [find(reference) for reference in references]


def _containers(uri: str) -> Iterator[str]:
    """Yield what may be the container of a member; none for the uri of a plain file."""
    position = uri.find(SEPARATOR)
    while position > 0:
        yield uri[:position]
        position = uri.find(SEPARATOR, position + 1)


def _members(
    container: str, column: str | None, stores: Stores, indexes: Indexes | None
) -> dict[str, ImageReference] | None:
    """Return the members of a container by uri; None for another file, or none at all."""
    try:
        with open_container(container, stores) as file:
            images = list_members(file, Ignored(), Wanted(column), indexes)
    except (NotFound, PermissionDenied):
        return None
    if images is None:
        return None
    return {reference.uri: reference for reference in references_of(images)}


def _joined(reference: ImageReference, now: ImageReference) -> ImageReference:
    if reference.etag in ("", now.etag):
        return now if reference.size < 0 else replace(now, size=reference.size)
    member = now.member or Member(reference.uri, "", "range", 0, 0)
    problem = f"{FailureKind.CHANGED.word}: the member has another etag than in the table"
    return replace(reference, member=replace(member, problem=problem))
