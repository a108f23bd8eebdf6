"""Find the members of a zip by its central directory, and take one out of its bytes.

The format: PKWARE's APPNOTE.TXT. The directory is read by Python's ``zipfile``.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator

from transforms.containers.base import ContainerDamaged, Found, Wanted
from transforms.containers.bytes import ContainerFile, Seekable
from transforms.errors import FailureKind
from transforms.file_names import Ignored

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_LOCAL = struct.Struct("<4s5H3L2H")
# A local header, its name and its extra fields have no more bytes.
_MAX_HEADER = _LOCAL.size + 2 * 65_535
# Zip64 has larger numbers than a table can hold.
_MAX_SIZE = (1 << 63) - 1
# A file system's mode is in the upper half of the attributes.
_MODE_SHIFT, _TYPE, _LINK = 16, 0o170000, 0o120000


def walk(file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
    """Yield the files of a zip; see ``transforms.containers.base.Walk``."""
    try:
        with zipfile.ZipFile(Seekable(file)) as archive:
            entries, end = archive.infolist(), archive.start_dir
    # NotImplementedError: an archive of a later version, or cut into several files.
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        kind = (
            FailureKind.UNSUPPORTED
            if isinstance(error, NotImplementedError)
            else FailureKind.CORRUPT
        )
        raise ContainerDamaged(kind, f"the zip's directory cannot be read: {error}") from error
    # Of entries at one place the later one has the room.
    entries.sort(key=lambda entry: entry.header_offset)
    ends = [*(entry.header_offset for entry in entries[1:]), end]
    for entry, following in zip(entries, ends, strict=False):
        if (entry.external_attr >> _MODE_SHIFT) & _TYPE == _LINK:
            ignored.links += 1
        elif not entry.filename.endswith("/"):
            room = following - entry.header_offset
            yield Found(
                _text(entry.filename),
                min(max(entry.header_offset, 0), end),
                max(min(room, entry.compress_size + _MAX_HEADER), 0),
                min(entry.file_size, _MAX_SIZE),
                f"crc32-{entry.CRC:08x}",
                problem=_problem(entry, room, end),
            )


def _text(name: str) -> str:
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def _problem(entry: zipfile.ZipInfo, length: int, end: int) -> str | None:
    """Return why a member cannot be read; ``length`` is the room that it has before ``end``."""
    if not 0 <= entry.header_offset <= end:
        return f"{FailureKind.CORRUPT.word}: the member lies outside of the zip"
    if entry.flag_bits & _ENCRYPTED:
        return f"{FailureKind.UNSUPPORTED.word}: the member is encrypted"
    if entry.compress_type not in (_STORED, _DEFLATED):
        return (
            f"{FailureKind.UNSUPPORTED.word}: compressed by method {entry.compress_type}; members "
            "of a zip have to be stored (0) or deflated (8)"
        )
    if length < entry.compress_size + _LOCAL.size:
        return f"{FailureKind.CORRUPT.word}: the member overlaps another one"
    return None


def member_bytes(entry: bytes, size: int, etag: str) -> bytes:
    """Return the bytes of a member, after checking their number and crc.

    Args:
        entry: The zip from the member's local header to the next one.
        size: Bytes of the member, by the directory. No more are ever made.
        etag: The member's, from ``walk``.

    Raises:
        ContainerDamaged: The bytes are not the member's.
    """
    if len(entry) < _LOCAL.size:
        raise ContainerDamaged(FailureKind.TRUNCATED, "the zip ends within the member's header")
    mark, _, _, method, _, _, _, _, _, name, extra = _LOCAL.unpack_from(entry)
    if mark != b"PK\3\4":
        raise ContainerDamaged(FailureKind.CORRUPT, "the member has no header where it should be")
    body = memoryview(entry)[_LOCAL.size + name + extra :]
    if method == _STORED:
        data = bytes(body[:size])
    else:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, size + 1)
        except zlib.error as error:
            raise ContainerDamaged(
                FailureKind.CORRUPT, f"the member cannot be decompressed: {error}"
            ) from error
    if len(data) != size:
        raise ContainerDamaged(
            FailureKind.CORRUPT,
            f"the member does not have the {size:,} bytes that the zip's directory says",
        )
    if not etag.startswith(f"crc32-{zlib.crc32(data):08x}"):
        raise ContainerDamaged(FailureKind.CORRUPT, "the member's crc32 is not the directory's")
    return data
