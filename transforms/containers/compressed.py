"""Read a compressed container as one stream, from its start to its end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from transforms.containers.base import ContainerDamaged
from transforms.containers.bytes import ContainerFile, Seekable
from transforms.errors import FailureKind, UserError

# A compressed container is read by one worker, twice: for its members, and for their bytes.
MAX_COMPRESSED = 4 << 30
# What a compressed container may become; images hardly shrink.
MAX_STREAM = 16 << 30
_BUFFER = 1 << 20
_SKIP = 4 << 20

# First bytes of each compression.
MARKS = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bz2": b"BZh"}
_OPEN: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "zstd": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw), "zstd"),
    "bz2": lambda raw: bz2.BZ2File(raw),
}


class DecompressedFile:
    """The decompressed bytes of a container, which can only be read forward."""

    def __init__(self, file: ContainerFile, compression: str) -> None:
        if file.size > MAX_COMPRESSED:
            raise UserError(
                f"{file.uri} is compressed, so one worker has to read it from start to end, and "
                f"has {file.size:,} bytes; allowed are {MAX_COMPRESSED:,}. Decompress it (images "
                "hardly shrink): then all workers share it"
            )
        self.uri, self.etag, self.modified = file.uri, file.etag, file.modified
        self.size = MAX_STREAM
        raw = io.BufferedReader(Seekable(file), _BUFFER)
        self._stream = _OPEN[compression](raw)
        self._position = 0

    def read(self, offset: int, length: int) -> bytes:
        if offset < self._position:
            raise ValueError("a compressed container can only be read forward")
        if not self.reaches(offset):
            return b""
        data = self._take(length)
        self._position += len(data)
        return data

    def reaches(self, end: int) -> bool:
        if end > MAX_STREAM:
            raise ContainerDamaged(
                FailureKind.TOO_LARGE, f"decompressed it has more than {MAX_STREAM:,} bytes"
            )
        while self._position < end:
            skipped = len(self._take(min(_SKIP, end - self._position)))
            if not skipped:
                return False
            self._position += skipped
        return True

    def _take(self, length: int) -> bytes:
        """Read on; fewer bytes only at the end."""
        data = bytearray()
        try:
            while len(data) < length and (more := self._stream.read(length - len(data))):
                data += more
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise ContainerDamaged(
                FailureKind.CORRUPT,
                f"the compressed stream breaks after {self._position + len(data):,} bytes: {error}",
            ) from error
        return bytes(data)
