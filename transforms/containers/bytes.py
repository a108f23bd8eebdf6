"""Read any range of a container, local or in a bucket, as long as it stays what it was."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from transforms.storage import NotFound, PermissionDenied, StorageError, StoredObject
from transforms.storage.bucket import Bucket
from transforms.storage.local import local_etag
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url, scheme_of
from transforms.times import file_time

# Bytes of one request to a bucket while a container is walked.
_PIECE = 8 << 20
# Pieces that are fetched ahead of a walk from the start to the end.
_AHEAD = 4
# Bytes of a read so short that asking for the etag would double its time.
_UNCHECKED = 4 << 10
# Pieces held in memory.
_HELD = _AHEAD + 2


class ContainerChanged(StorageError):
    """The container is not the one that was listed."""


class ContainerFile(Protocol):
    """A container whose bytes can be read at any place. Not safe for threads.

    Raises:
        StorageError: From ``read``, if the storage fails.
        ContainerChanged: From ``read``, if the container has another etag by now.
    """

    # Absolute path or URL.
    uri: str
    etag: str
    # Bytes.
    size: int
    modified: datetime | None

    def read(self, offset: int, length: int) -> bytes:
        """Return some bytes; fewer, or none, where the container ends before."""

    def reaches(self, end: int) -> bool:
        """Tell whether the container has at least ``end`` bytes."""


class LocalFile:
    """A container on this machine."""

    def __init__(self, path: str) -> None:
        self.uri = path
        with _translated(path):
            # Not blocking: opening a named pipe would otherwise wait for its writer.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._descriptor)
            raise NotFound(f"{path} is not a file")
        self.etag, self.size = local_etag(status), status.st_size
        self.modified = file_time(status.st_mtime_ns)

    def read(self, offset: int, length: int) -> bytes:
        # Not a context manager, which would double the time of a walk through a tar.
        try:
            data = os.pread(self._descriptor, length, offset)
            # A read gives 2 GiB at most.
            while len(data) < length and (
                more := os.pread(self._descriptor, length - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise StorageError(f"cannot read {self.uri}: {error.strerror}") from error
        # The images of a stream are used long before its end. Headers are checked by ``close``.
        if length > _UNCHECKED:
            self._check()
        return data

    def reaches(self, end: int) -> bool:
        return end <= self.size

    def close(self) -> None:
        """Raise ``ContainerChanged`` if the container was written to since it was opened."""
        try:
            self._check()
        finally:
            os.close(self._descriptor)

    def _check(self) -> None:
        if local_etag(os.fstat(self._descriptor)) != self.etag:
            raise ContainerChanged(f"{self.uri} was written to while it was read")


class BucketFile:
    """A container in a bucket, read in pieces of 8 MiB; four more are fetched ahead of a walk."""

    def __init__(self, url: str, stores: Stores) -> None:
        self.uri = url
        scheme, name, self._key = parse_url(url)
        self._bucket = Bucket(scheme, name, stores)
        found = self._bucket.head(self._key)
        if found is None:
            raise NotFound(f"{url} is not there")
        self.etag, self.size, self.modified = found.etag, found.size, found.modified
        self._pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="container")
        self._pieces: OrderedDict[int, Future[bytes]] = OrderedDict()
        # The first piece does not begin a walk: it may only tell the kind.
        self._last = -2

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        first, last = offset // _PIECE, (end - 1) // _PIECE
        pieces = [self._piece(number) for number in range(first, last + 1)]
        if len(pieces) == 1:
            return pieces[0][offset - first * _PIECE : end - first * _PIECE]
        start = offset - first * _PIECE
        return b"".join(pieces)[start : start + end - offset]

    def reaches(self, end: int) -> bool:
        return end <= self.size

    def close(self) -> None:
        """Wait for the requests under way."""
        self._pool.shutdown(cancel_futures=True)

    def _piece(self, number: int) -> bytes:
        wanted = [number]
        if number == self._last + 1:
            count = -(-self.size // _PIECE)
            wanted += range(number + 1, min(number + 1 + _AHEAD, count))
        self._last = number
        for piece in wanted:
            if piece not in self._pieces:
                self._pieces[piece] = self._pool.submit(self._fetch, piece)
        found = self._pieces[number]
        while len(self._pieces) > _HELD:
            self._pieces.popitem(last=False)
        return found.result()

    def _fetch(self, number: int) -> bytes:
        start = number * _PIECE
        length = min(_PIECE, self.size - start)
        data = self._bucket.get_range(self._key, start, length, self._check)
        if len(data) != length:
            raise ContainerChanged(f"{self.uri} has fewer bytes than before")
        return data

    def _check(self, stored: StoredObject) -> None:
        if stored.etag != self.etag:
            raise ContainerChanged(f"{self.uri} was replaced while it was read")


@contextmanager
def open_container(uri: str, stores: Stores = ()) -> Iterator[ContainerFile]:
    """Open a container.

    Args:
        uri: Absolute path or URL.
        stores: Where buckets are.

    Raises:
        NotFound: There is no such file.
        StorageError: It cannot be read, or it changed meanwhile.
    """
    file: LocalFile | BucketFile = (
        BucketFile(uri, stores) if scheme_of(uri) not in ("", "file") else LocalFile(uri)
    )
    try:
        yield file
    except BaseException:
        with _quietly():
            file.close()
        raise
    file.close()


class Seekable(io.RawIOBase):
    """A container as a file object, for libraries that read one."""

    def __init__(self, file: ContainerFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            # As a file does it: zipfile looks before the start of a short zip.
            raise OSError(errno.EINVAL, f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def size(self) -> int:
        """Return the container's size in bytes."""
        return self._file.size


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path} is not there") from error
    except PermissionError as error:
        raise PermissionDenied(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except (StorageError, OSError):
        return
