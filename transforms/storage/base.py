"""Define what every storage can do, and how it fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

_FULL = (errno.ENOSPC, errno.EDQUOT)


class StorageError(Exception):
    """A request to a folder or bucket failed; the message is one clear line."""


class NotFound(StorageError):
    """The object or its bucket does not exist."""


class PermissionDenied(StorageError):
    """The credentials do not allow the request, or there are none."""


class NoRoom(StorageError):
    """The disk, or its user's share of it, is full."""


class Unaddressable(StorageError):
    """The key is valid in the bucket, but the client cannot express it."""


def is_full(error: Exception) -> bool:
    """Tell whether an error means that the disk, or its user's share of it, is full.

    Libraries may keep only the text of the system's error.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(os.strerror(number) in str(error) for number in _FULL)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing."""

    key: str
    size: int  # bytes
    # Without quotes; "" if the store has none.
    etag: str
    modified: datetime | None  # UTC


class Storage(Protocol):
    """A folder, local or remote.

    Raises:
        NotFound: From any method, if the object or the bucket does not exist.
        PermissionDenied: From any method, if the credentials do not allow the request.
        StorageError: From any method, for any other failure.
    """

    def __hash__(self) -> int:
        """Hash by value, so that a storage can be the key of a cache."""

    @property
    def url(self) -> str:
        """Return the absolute path or URL, without a trailing slash."""

    @property
    def delta_options(self) -> dict[str, str]:
        """Return endpoint, plain http and region for deltalake, but never a secret."""

    def folder(self, name: str) -> Storage:
        """Return the storage at a folder of this one."""

    def read(self, key: str) -> bytes:
        """Return the whole object."""

    def write(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store an object, whole or not at all, and replace an existing one.

        Args:
            key: Where to store it.
            data: The whole object.
            durable: Wait for the disk, so that the object survives a crash of the machine.
        """

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Store an object, whole or not at all, unless the key exists.

        Returns:
            True if the object was stored, False if the key existed and nothing changed. Of several
            concurrent writers exactly one gets True. In a bucket, writers of the same bytes get
            True as well: they look like one writer that repeats a request whose answer was lost.
        """

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield all objects below a folder at any depth; none if there is no such folder."""

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly in ``prefix``, sorted; "" is the top."""

    def delete(self, key: str) -> None:
        """Delete the object, if it exists."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object with this key."""
