"""Read: image references → their bytes, many at once, in order, with bounded memory."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from transforms.choices import MAX_IMAGE_BYTES
from transforms.errors import FailureKind, ImageError
from transforms.records import ImageReference
from transforms.storage import NotFound, PermissionDenied, StorageError, StoredObject, Unaddressable
from transforms.storage.bucket import Bucket
from transforms.storage.local import local_etag
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url, scheme_of
from transforms.times import file_time

_GROUP_FILES = (
    # Local files of one task: alone each costs 60 µs of threading, in such groups 2 µs
    32
)
_GROUP_BYTES = 4 << 20
# Seconds that a consumer waits for local files, in all, before all threads may read; warm: 0.01
_PATIENCE = 0.1


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it is stored."""

    reference: ImageReference  # describes exactly these bytes
    data: bytes
    sha256: str  # of data, 64 hexadecimal digits


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """Bounds of reading."""

    # Of one image; a larger one fails and is not read
    max_bytes: int = MAX_IMAGE_BYTES
    # Reads at once: 1,280 images/s from a store 50 ms away; bytes in flight bound large ones
    concurrency: int = 64
    # Read or being read, and not yet taken by the consumer
    max_bytes_in_flight: int = 256 << 20
    stores: Stores = ()  # where buckets are


_error = partial(ImageError, "read")
Result = EncodedImage | tuple[ImageReference, ImageError]


@dataclass(frozen=True, slots=True)
class _Group:
    """References that one task reads."""

    references: Sequence[ImageReference]
    reserved: int  # bytes that they take at most


class _Gate:
    """Lets one thread read local files, and all of them as soon as that turns out to be too slow.

    One reads and hashes some 30,000 small files a second from a warm disk. Several fight with each
    other and with the decoders for Python's lock: a file took 64 of them 45 µs of a core, two 12;
    with one a job was 2 % faster still.
    """

    def __init__(self, concurrency: int, stores: Stores) -> None:
        self._stores = stores
        self._open = threading.Semaphore(1)
        self._closed = concurrency - 1
        self._patience = _PATIENCE
        # By the consumer: who waits to read need not any more
        self.given_up = False

    def read(self, group: _Group, max_bytes: int) -> list[Result]:
        remote = scheme_of(group.references[0].uri)
        with nullcontext() if remote else self._open:
            return (
                []
                if self.given_up
                else [
                    _read_one(reference, max_bytes, self._stores) for reference in group.references
                ]
            )

    def wait(self, reading: Future[list[Result]]) -> list[Result]:
        start = time.monotonic()
        try:
            return reading.result(self._patience)
        except TimeoutError:
            if self._closed:
                self._open.release(self._closed)
                self._closed = 0
            return reading.result()
        finally:
            self._patience = max(0.0, self._patience - (time.monotonic() - start))


def read_images(
    references: Sequence[ImageReference], policy: ReadPolicy | None = None
) -> Iterator[EncodedImage | tuple[ImageReference, ImageError]]:
    """Read images concurrently and yield them, or why they could not be read, in the order of ``references``.

    Bytes read ahead never exceed ``max_bytes_in_flight``, save for one image that alone is larger.
    An image whose etag or size is not the reference's fails as changed; what a reference does not
    know (etag "", size -1) is filled in. Transient troubles of a bucket are retried before they
    fail. Closing the iterator early starts no further read and waits for those under way.
    """
    policy = policy or ReadPolicy()
    groups = deque(_group(references, policy))
    reading: deque[tuple[_Group, Future[list[Result]]]] = deque()
    most = (
        8 * policy.concurrency
        # Images ahead: a store 50 ms away fills the next chunk while this one is computed
    )
    ahead = in_flight = 0
    gate = _Gate(policy.concurrency, policy.stores)
    pool = ThreadPoolExecutor(policy.concurrency, thread_name_prefix="read")
    try:
        while groups or reading:
            while groups and ahead < most:
                if reading and in_flight + groups[0].reserved > policy.max_bytes_in_flight:
                    break
                group = groups.popleft()
                ahead += len(group.references)
                in_flight += group.reserved
                reading.append((group, pool.submit(gate.read, group, policy.max_bytes)))
            group, future = reading.popleft()
            yield from gate.wait(future)
            # And with it the bytes, before others take their place
            del future
            ahead -= len(group.references)
            in_flight -= group.reserved
    finally:
        gate.given_up = True
        pool.shutdown(cancel_futures=True)


def _group(references: Sequence[ImageReference], policy: ReadPolicy) -> Iterator[_Group]:
    """Cut references into tasks: neighbouring small local files together, everything else alone."""
    most_files = max(1, min(_GROUP_FILES, len(references) // _GROUP_FILES))
    most_bytes = min(_GROUP_BYTES, policy.max_bytes_in_flight // 2)
    group: list[ImageReference] = []
    reserved = 0
    for reference in references:
        size = _reserve(reference, policy.max_bytes)
        alone = bool(scheme_of(reference.uri))
        if group and (alone or len(group) == most_files or reserved + size > most_bytes):
            yield _Group(group, reserved)
            group, reserved = [], 0
        group.append(reference)
        reserved += size
        if alone:
            yield _Group(group, reserved)
            group, reserved = [], 0
    if group:
        yield _Group(group, reserved)


def _reserve(reference: ImageReference, max_bytes: int) -> int:
    """Bytes that reading ``reference`` can take: none if it is known to be too large."""
    if reference.size < 0:
        return max_bytes
    return reference.size if reference.size <= max_bytes else 0


def _read_one(reference: ImageReference, max_bytes: int, stores: Stores) -> Result:
    try:
        if reference.size > max_bytes:
            raise _too_large(reference.size, max_bytes)
        if scheme_of(reference.uri):
            return _read_object(reference, max_bytes, stores)
        return _read_file(reference, max_bytes)
    except ImageError as error:
        return reference, error


def _read_object(reference: ImageReference, max_bytes: int, stores: Stores) -> EncodedImage:
    scheme, bucket, key = parse_url(reference.uri)
    found: list[StoredObject] = []

    def check(stored: StoredObject) -> None:
        _check(reference, stored.etag, stored.size, max_bytes)
        found.append(stored)

    try:
        data = Bucket(scheme, bucket, stores).get(key, check)
    except StorageError as error:
        raise _error(_kind(error), str(error)) from error
    return _encoded(_filled(reference, found[-1].etag, len(data), found[-1].modified), data)


def _read_file(reference: ImageReference, max_bytes: int) -> EncodedImage:
    try:
        # Not blocking: opening a named pipe would otherwise wait for its writer, maybe forever.
        descriptor = os.open(reference.uri, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise _error(
                    FailureKind.UNSUPPORTED, "not a file: a folder, pipe, socket or device"
                )
            _check(reference, local_etag(before), before.st_size, max_bytes)
            data = _read_exactly(partial(os.read, descriptor), before.st_size)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _local_error(error) from error
    if len(data) != before.st_size or local_etag(after) != local_etag(before):
        raise _error(FailureKind.CHANGED, "the file was written to while it was read")
    modified = file_time(after.st_mtime_ns)
    return _encoded(_filled(reference, local_etag(after), len(data), modified), data)


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Read up to ``size`` bytes, in one call unless the file system gives less at a time."""
    data = read(size)
    while len(data) < size and (more := read(size - len(data))):
        data += more
    return data


def _encoded(reference: ImageReference, data: bytes) -> EncodedImage:
    """Hash by the thread that has just read: on a CPU the network is computing meanwhile, and waits for nothing."""
    return EncodedImage(reference, data, hashlib.sha256(data).hexdigest())


def _check(reference: ImageReference, etag: str, size: int, max_bytes: int) -> None:
    """Raise unless what is stored now is what was listed, and not too large."""
    if reference.etag not in ("", etag) or reference.size not in (-1, size):
        raise _error(
            FailureKind.CHANGED,
            f"changed since it was listed: etag {reference.etag}, {reference.size} bytes then; "
            f"etag {etag}, {size} bytes now",
        )
    if size > max_bytes:
        raise _too_large(size, max_bytes)


def _too_large(size: int, max_bytes: int) -> ImageError:
    return _error(FailureKind.TOO_LARGE, f"{size:,} bytes; --max-image-bytes allows {max_bytes:,}")


def _filled(
    reference: ImageReference, etag: str, size: int, modified: datetime | None
) -> ImageReference:
    if reference.etag and reference.size >= 0:
        return reference
    return replace(reference, etag=etag, size=size, modified=reference.modified or modified)


def _kind(error: StorageError) -> FailureKind:
    kinds = {
        NotFound: FailureKind.NOT_FOUND,
        PermissionDenied: FailureKind.PERMISSION_DENIED,
        Unaddressable: FailureKind.UNSUPPORTED,
    }
    return kinds.get(type(error), FailureKind.IO_ERROR)


def _local_error(error: OSError | ValueError) -> ImageError:
    if isinstance(
        error, FileNotFoundError | NotADirectoryError | ValueError
    ):  # ValueError: no possible name
        return _error(FailureKind.NOT_FOUND, "no such file")
    kind = (
        FailureKind.PERMISSION_DENIED
        if isinstance(error, PermissionError)
        else FailureKind.IO_ERROR
    )
    return _error(kind, f"cannot be read: {error.strerror}")
