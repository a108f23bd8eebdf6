"""Readers of whole files: one image reference → its bytes. Its scheme says which reader reads it.

``transforms.containers.read`` reads the members of containers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from transforms.containers.bytes import ContainerChanged
from transforms.errors import FailureKind, ImageError
from transforms.records import ImageReference
from transforms.storage import (
    NotFound,
    PermissionDenied,
    StorageError,
    StoredObject,
    Unaddressable,
)
from transforms.storage.bucket import Bucket
from transforms.storage.local import local_etag
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url, scheme_of
from transforms.times import file_time

_error = partial(ImageError, "read")


class Reader(Protocol):
    """Reads the bytes of one image. Safe to call from many threads."""

    def read(self, reference: ImageReference, max_bytes: int) -> tuple[ImageReference, bytes]:
        """Read the bytes that a reference means.

        Args:
            reference: One that ``reader_for`` gives this reader for.
            max_bytes: The limit for one image; a larger one is not read.

        Returns:
            The reference, with the etag and size that it did not know, and the encoded image.

        Raises:
            ImageError: Stage ``read``: the file is not there, changed, too large or unreadable.
        """


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads local files."""

    def read(self, reference: ImageReference, max_bytes: int) -> tuple[ImageReference, bytes]:
        try:
            # Not blocking: opening a named pipe would otherwise wait for its writer, maybe forever.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(reference.location, flags)
            try:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    what = "not a file: a folder, pipe, socket or device"
                    raise _error(FailureKind.UNSUPPORTED, what)
                etag = local_etag(before)
                size = before.st_size
                _check_same(reference, etag, size)
                check_size(size, max_bytes)
                data = _read_exactly(partial(os.read, descriptor), size)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise _local_error(error) from error
        if len(data) != size or local_etag(after) != etag:
            raise _error(FailureKind.CHANGED, "the file was written to while it was read")
        return _filled(reference, etag, size, file_time(after.st_mtime_ns)), data


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """Reads objects of buckets."""

    stores: Stores

    def read(self, reference: ImageReference, max_bytes: int) -> tuple[ImageReference, bytes]:
        scheme, bucket, key = parse_url(reference.location)
        found: list[StoredObject] = []

        def check(stored: StoredObject) -> None:
            _check_same(reference, stored.etag, stored.size)
            check_size(stored.size, max_bytes)
            found.append(stored)

        try:
            data = Bucket(scheme, bucket, self.stores).get(key, check)
        except StorageError as error:
            raise storage_failure(error) from error
        return _filled(reference, found[-1].etag, len(data), found[-1].modified), data


_FILES = FileReader()


def reader_for(reference: ImageReference, stores: Stores) -> Reader:
    """Return the reader for an image.

    Args:
        reference: The image, a whole file.
        stores: Where buckets are.
    """
    return ObjectReader(stores) if scheme_of(reference.location) else _FILES


def check_size(size: int, max_bytes: int) -> None:
    """Raise ``ImageError`` for an image of more than ``max_bytes``."""
    if size > max_bytes:
        what = f"{size:,} bytes; --max-image-bytes allows {max_bytes:,}"
        raise _error(FailureKind.TOO_LARGE, what)


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Read up to ``size`` bytes, in one call unless the file system gives less at a time."""
    data = read(size)
    while len(data) < size and (more := read(size - len(data))):
        data += more
    return data


def _check_same(reference: ImageReference, etag: str, size: int) -> None:
    """Raise ``ImageError`` unless a file is the one that was listed.

    Args:
        reference: The image.
        etag: Of the file or object now.
        size: Of the file or object now, bytes.
    """
    if reference.etag not in ("", etag) or reference.size not in (-1, size):
        raise _error(
            FailureKind.CHANGED,
            f"changed since it was listed: etag {reference.etag}, {reference.size} bytes then; "
            f"etag {etag}, {size} bytes now",
        )


def _filled(
    reference: ImageReference,
    etag: str,
    size: int,
    modified: datetime | None,
) -> ImageReference:
    if reference.etag and reference.size >= 0:
        return reference
    return replace(reference, etag=etag, size=size, modified=reference.modified or modified)


def storage_failure(error: StorageError) -> ImageError:
    """Return the failure of an image that a storage did not give."""
    kinds = {
        NotFound: FailureKind.NOT_FOUND,
        PermissionDenied: FailureKind.PERMISSION_DENIED,
        Unaddressable: FailureKind.UNSUPPORTED,
        ContainerChanged: FailureKind.CHANGED,
    }
    return _error(kinds.get(type(error), FailureKind.IO_ERROR), str(error))


def _local_error(error: OSError | ValueError) -> ImageError:
    # ValueError: no file can have this name.
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return _error(FailureKind.NOT_FOUND, "no such file")
    denied = isinstance(error, PermissionError)
    kind = FailureKind.PERMISSION_DENIED if denied else FailureKind.IO_ERROR
    return _error(kind, f"cannot be read: {error.strerror}")
