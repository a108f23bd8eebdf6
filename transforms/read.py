"""Read: image references → their bytes, many at once, in order, with bounded memory."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

from transforms.choices import MAX_IMAGE_BYTES
from transforms.errors import ImageError
from transforms.readers import check_size, reader_for
from transforms.records import ImageReference
from transforms.storage.settings import Stores
from transforms.storage.urls import scheme_of

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
        # The consumer has stopped: threads that wait for their turn need not read.
        self.given_up = False

    def read(self, group: _Group, max_bytes: int) -> list[Result]:
        remote = scheme_of(group.references[0].location)
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
    """Read images concurrently, and yield them or why they could not be read, in their order.

    Prefetched bytes never exceed ``max_bytes_in_flight``, save for one image that alone is larger.
    An image whose etag or size is not the reference's fails as changed; what a reference does not
    know (etag "", size -1) is filled in. Transient troubles of a bucket are retried before they
    fail. Closing the iterator early starts no further read and waits for those under way.
    """
    policy = policy or ReadPolicy()
    groups = deque(_group(references, policy))
    reading: deque[tuple[_Group, Future[list[Result]]]] = deque()
    # Images to prefetch: a store 50 ms away fills the next chunk while this one is computed.
    max_prefetched = 8 * policy.concurrency
    prefetched = in_flight = 0
    gate = _Gate(policy.concurrency, policy.stores)
    pool = ThreadPoolExecutor(policy.concurrency, thread_name_prefix="read")
    try:
        while groups or reading:
            while groups and prefetched < max_prefetched:
                if reading and in_flight + groups[0].reserved > policy.max_bytes_in_flight:
                    break
                group = groups.popleft()
                prefetched += len(group.references)
                in_flight += group.reserved
                reading.append((group, pool.submit(gate.read, group, policy.max_bytes)))
            group, future = reading.popleft()
            yield from gate.wait(future)
            # Its bytes go before others take their place.
            del future
            prefetched -= len(group.references)
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
        alone = bool(scheme_of(reference.location))
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
    size = reference.expected_size
    if size < 0:
        return max_bytes
    return size if size <= max_bytes else 0


def _read_one(reference: ImageReference, max_bytes: int, stores: Stores) -> Result:
    try:
        check_size(reference.expected_size, max_bytes)
        found, data = reader_for(reference, stores).read(reference, max_bytes)
    except ImageError as error:
        return reference, error
    # Hashed by the thread that read: on a CPU it has time, since the network is computing.
    return EncodedImage(found, data, hashlib.sha256(data).hexdigest())
