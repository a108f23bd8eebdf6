"""What every storage can do, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class StorageError(Exception):
    """A folder or bucket did not do what was asked; the message is one clear line."""


class NotFound(StorageError):
    """The object, or its bucket, is not there."""


class PermissionDenied(StorageError):
    """The credentials, or their absence, do not allow it."""


class Unaddressable(StorageError):
    """The key is legal in the bucket, but the client has no way to express it."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing."""

    key: str
    size: int  # bytes
    # Without quotes; "" where the store has none
    etag: str
    modified: datetime | None  # UTC


class Storage(Protocol):
    """A folder, local or remote.

    Its methods raise ``NotFound``, ``PermissionDenied`` or ``StorageError``.
    """

    def __hash__(self) -> int:
        """A storage is a value: it can be the key of a cache."""

    @property
    def url(self) -> str:
        """Absolute path or URL, without a slash at its end."""

    @property
    def delta_options(self) -> dict[str, str]:
        """What deltalake needs besides the environment: endpoint, plain http, region; never a secret."""

    def folder(self, name: str) -> Storage:
        """Return the storage at a folder of this one."""

    def read(self, key: str) -> bytes:
        """Return the whole object."""

    def write(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store whole or not at all, over what was there.

        What nobody wants after a crash of the machine need not be ``durable``: nothing waits for
        the disk then.
        """

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Store whole or not at all; False, and nothing changed, if the key was there already.

        Of several at once exactly one gets True. In a bucket also those get it that bring the very
        same bytes: they are not to be told from a request whose answer was lost on its way.
        """

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield all objects below the folder ``prefix`` at any depth; none if there is no such folder."""

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly in ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object with this key."""
