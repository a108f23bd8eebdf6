"""Walk through a tar from header to header, without reading the members.

The format: POSIX.1-2001, pax Interchange Format and ustar; GNU tar's manual, "Basic Tar Format".
Python's ``tarfile`` takes ten times as long, and stops at some damage without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from transforms.containers.base import ContainerDamaged, Found, Wanted
from transforms.containers.bytes import ContainerFile
from transforms.errors import FailureKind
from transforms.file_names import Ignored

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
# Types of plain files; 7 was meant for files that lie in one piece on their disk.
_FILES = b"0\x007"
_FOLDER, _LINKS, _SPARSE = b"5", b"12", b"S"
# Links and devices have no data, whatever size some writers give them.
_NO_DATA = b"12346"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
# No name, pax header or file about an image is longer: 100 times what Linux allows for a path.
_MAX_NOTE = 1 << 20
# Pax records that the walk uses; one stands for all those of a sparse member.
_USED, _SPARSE_KEY = (b"path", b"size"), "GNU.sparse"
# Of the length of a pax record.
_MAX_DIGITS = 9
# Files that say something about the image of the same name, as WebDataset has them.
NOTES = (".json", ".txt", ".cls")


@dataclass
class _Notes:
    """What the extra headers before a member say about it."""

    # Pax records that hold for all members from here on.
    everywhere: dict[str, str] = field(default_factory=dict)
    # Pax records of the next member.
    pax: dict[str, str] = field(default_factory=dict)
    long_name: str | None = None

    def take(self) -> tuple[str | None, dict[str, str]]:
        """Return the next member's long name and pax records, and forget them."""
        found = self.long_name, self.everywhere | self.pax
        self.long_name, self.pax = None, {}
        return found


def walk(file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
    """Yield the plain files of a tar; see ``transforms.containers.base.Walk``."""
    notes, position = _Notes(), 0
    while True:
        header = file.read(position, _BLOCK)
        if header == _ZEROS:
            _check_end(file, position)
            return
        if len(header) < _BLOCK:
            raise ContainerDamaged(
                FailureKind.TRUNCATED, f"the tar ends at byte {position:,} without its end mark"
            )
        _check_sum(header, position)
        kind, size = header[156:157], _number(header[124:136], position)
        start = position + _BLOCK
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            _note(notes, kind, _read(file, start, size))
        else:
            long_name, pax = notes.take()
            name = pax.get("path") or long_name or _name(header)
            size = 0 if kind in _NO_DATA else _pax_size(pax, size, position)
            if kind == _SPARSE:
                start = _after_sparse_headers(file, header, start)
            if kind == _SPARSE or _SPARSE_KEY in pax:
                kind = _SPARSE
            found = Found(name, start, size, size, note=_about(file, name, start, size, wanted))
            if not file.reaches(start + size):
                raise ContainerDamaged(
                    FailureKind.TRUNCATED,
                    f"the tar ends within the member at byte {position:,}, which should have "
                    f"{size:,} bytes",
                )
            if _is_plain(kind, name, ignored):
                yield found
        position = start + -(-size // _BLOCK) * _BLOCK


def _is_plain(kind: bytes, name: str, ignored: Ignored) -> bool:
    """Tell whether a member is a plain file; count it otherwise, unless it is a folder."""
    if kind in _FILES:
        return not name.endswith("/")
    if kind == _SPARSE or kind in _LINKS:
        ignored.links += 1
    elif kind != _FOLDER:
        ignored.other += 1
    return False


def _about(file: ContainerFile, name: str, start: int, size: int, wanted: Wanted) -> bytes | None:
    """Return the content of a file that says something about an image; None for another."""
    if wanted.carry and name.lower().endswith(NOTES) and size <= _MAX_NOTE:
        return file.read(start, size)
    return None


def is_tar(head: bytes) -> bool:
    """Tell whether a file that starts with these bytes (at least 512) is a tar."""
    if len(head) < _BLOCK or head[:_BLOCK] == _ZEROS:
        return False
    try:
        _check_sum(head[:_BLOCK], 0)
        _number(head[124:136], 0)
    except ContainerDamaged:
        return False
    return True


def _check_end(file: ContainerFile, position: int) -> None:
    """Raise ``ContainerDamaged`` if the end mark has only one of its blocks, and more follows."""
    following = file.read(position + _BLOCK, _BLOCK)
    if following.strip(b"\0"):
        raise ContainerDamaged(
            FailureKind.CORRUPT,
            f"the tar has a block of zeros at byte {position:,}, and more after it",
        )


def _check_sum(header: bytes, position: int) -> None:
    """Raise ``ContainerDamaged`` unless the bytes are a header."""
    # The checksum counts its own eight bytes as spaces. Some old writers summed signed bytes.
    unsigned = sum(header) - sum(header[148:156]) + 8 * 32
    said = _octal(header[148:156])
    if said != unsigned:
        signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
        if said != signed:
            raise ContainerDamaged(
                FailureKind.CORRUPT, f"the tar has no valid header at byte {position:,}"
            )


def _number(digits: bytes, position: int) -> int:
    """Return a size: octal digits, or a big-endian number after a first bit that is set."""
    number = int.from_bytes(digits[1:], "big") if digits[0] == 0x80 else _octal(digits)
    if number is None:
        raise ContainerDamaged(
            FailureKind.CORRUPT, f"the tar's header at byte {position:,} has no valid size"
        )
    return number


def _octal(digits: bytes) -> int | None:
    text = digits.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    return int(text, 8) if text.isdigit() and not set(text) & set(b"89") else None


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    # GNU's own format, "ustar  ", has other fields where POSIX has the start of a long name.
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    return _text(name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _read(file: ContainerFile, start: int, size: int) -> bytes:
    if size > _MAX_NOTE:
        raise ContainerDamaged(
            FailureKind.CORRUPT, f"the tar has an extra header of {size:,} bytes at byte {start:,}"
        )
    data = file.read(start, size)
    if len(data) < size:
        raise ContainerDamaged(
            FailureKind.TRUNCATED, f"the tar ends within the extra header at byte {start:,}"
        )
    return data


def _note(notes: _Notes, kind: bytes, data: bytes) -> None:
    if kind == _LONG_NAME:
        notes.long_name = _text(data.split(b"\0", 1)[0])
    elif kind == _PAX:
        notes.pax = _pax_records(data)
    elif kind == _PAX_GLOBAL:
        notes.everywhere |= _pax_records(data)


def _pax_records(data: bytes) -> dict[str, str]:
    """Parse records: ``LENGTH KEY=VALUE`` and a line break; LENGTH counts the whole record.

    Others than those that the walk uses are left out: millions fit into a small compressed tar.
    """
    records: dict[str, str] = {}
    position, end = 0, len(data.rstrip(b"\0"))
    while position < end:
        space = data.find(b" ", position, position + _MAX_DIGITS + 1)
        digits = data[position : max(space, position)]
        following = position + int(digits) if digits.isdigit() else 0
        if not position < space < following <= len(data):
            raise ContainerDamaged(FailureKind.CORRUPT, "the tar has a pax header without sense")
        key, _, value = data[space + 1 : following].removesuffix(b"\n").partition(b"=")
        if key in _USED:
            records[key.decode()] = _text(value)
        elif key.startswith(b"GNU.sparse."):
            records[_SPARSE_KEY] = ""
        position = following
    return records


def _pax_size(pax: dict[str, str], size: int, position: int) -> int:
    text = pax.get("size")
    if text is None:
        return size
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ContainerDamaged(
            FailureKind.CORRUPT, f"the pax header before byte {position:,} has no valid size"
        )
    return int(text)


def _after_sparse_headers(file: ContainerFile, header: bytes, start: int) -> int:
    """Return where the data of a sparse member in GNU's old format starts."""
    more, block = header[482:483], header
    while more not in (b"", b"\0"):
        block = file.read(start, _BLOCK)
        more = block[504:505]
        start += _BLOCK
    return start
