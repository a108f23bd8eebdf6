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

from transforms.containers.read import member_of, read_span, read_stream
from transforms.errors import ImageError
from transforms.prefetch import prefetch
from transforms.read_groups import Group, ReadPolicy, group_references
from transforms.readers import check_size, reader_for
from transforms.records import ImageReference
from transforms.storage.settings import Stores
from transforms.storage.urls import scheme_of

__all__ = ["EncodedImage", "ReadPolicy", "Result", "read_images"]

# Images, and bytes, of a stream that are handed on together.
_GROUP_FILES, _GROUP_BYTES = 32, 4 << 20
# Seconds that a consumer waits for local files, in all, before all threads may read; warm: 0.01
_PATIENCE = 0.1


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it is stored."""

    reference: ImageReference  # describes exactly these bytes
    data: bytes
    sha256: str  # of data, 64 hexadecimal digits


Result = EncodedImage | tuple[ImageReference, ImageError]


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

    def read(self, group: Group, max_bytes: int) -> list[Result]:
        remote = scheme_of(group.references[0].location)
        with nullcontext() if remote else self._open:
            return [] if self.given_up else _read_group(group, max_bytes, self._stores)

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
    """Read images concurrently, and yield each one, or why it could not be read.

    They come in the order of the references. Prefetched bytes never exceed
    ``max_bytes_in_flight``, save for one image that alone is larger. An image whose etag or size is
    not the reference's fails as changed; what a reference does not know (etag "", size -1) is
    filled in. Transient troubles of a bucket are retried before they fail. Closing the iterator
    early starts no further read and waits for those under way.
    """
    policy = policy or ReadPolicy()
    for run in _runs(references):
        if _stream_of(run[0]) is None:
            yield from _read_ahead(run, policy)
        else:
            for results in prefetch(_read_streams(run, policy)):
                yield from results


def _runs(references: Sequence[ImageReference]) -> Iterator[list[ImageReference]]:
    """Cut references into runs: all with direct access, or each further on in one stream."""
    run: list[ImageReference] = []
    for reference in references:
        if run and not _follows(reference, run[-1]):
            yield run
            run = []
        run.append(reference)
    if run:
        yield run


def _follows(reference: ImageReference, last: ImageReference) -> bool:
    stream = _stream_of(reference)
    if stream is None or stream != _stream_of(last):
        return stream == _stream_of(last)
    # A stream cannot be read backwards.
    return member_of(reference).offset > member_of(last).offset


def _stream_of(reference: ImageReference) -> tuple[str, int] | None:
    """Return the stream that an image has to be read from; None for direct access."""
    member = reference.member
    if member is None or member.stream is None:
        return None
    return member.container, member.stream


def _read_streams(
    references: Sequence[ImageReference], policy: ReadPolicy
) -> Iterator[list[Result]]:
    """Read one stream, some MiB at a time."""
    results: list[Result] = []
    held = 0
    for reference, data in read_stream(references, policy.max_bytes, policy.stores):
        results.append(_result(reference, data))
        held += 0 if isinstance(data, ImageError) else len(data)
        if held > _GROUP_BYTES or len(results) == _GROUP_FILES:
            yield results
            results, held = [], 0
    if results:
        yield results


def _read_ahead(references: Sequence[ImageReference], policy: ReadPolicy) -> Iterator[Result]:
    groups = deque(group_references(references, policy))
    reading: deque[tuple[Group, Future[list[Result]]]] = deque()
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


def _read_group(group: Group, max_bytes: int, stores: Stores) -> list[Result]:
    if group.references[0].member:
        found = read_span(group.references, max_bytes, stores)
        return [_result(*one) for one in found]
    return [_read_one(reference, max_bytes, stores) for reference in group.references]


def _read_one(reference: ImageReference, max_bytes: int, stores: Stores) -> Result:
    try:
        check_size(reference.size, max_bytes)
        found, data = reader_for(reference, stores).read(reference, max_bytes)
    except ImageError as error:
        return reference, error
    return _result(found, data)


def _result(reference: ImageReference, data: bytes | ImageError) -> Result:
    if isinstance(data, ImageError):
        return reference, data
    # Hashed by the thread that read: on a CPU it has time, since the network is computing.
    return EncodedImage(reference, data, hashlib.sha256(data).hexdigest())
