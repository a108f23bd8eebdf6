"""Read the integer tags of a TIFF structure, which EXIF blocks have too."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

# SHORT, LONG, LONG8.
_INTEGERS = {3: "H", 4: "I", 16: "Q"}
# Bytes of a value, by its type.
_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
# Tags of the offsets and the byte counts.
STRIPS, TILES = (273, 279), (324, 325)
# EXIF, GPS and interoperability, which Pillow reads with the picture.
_SUB_DIRECTORIES = (34665, 34853, 40965)
# Max entries of a plain TIFF. BigTIFF's 64-bit counts would allow any amount of work.
_MAX_ENTRIES = 65535
_MAX_VALUES = 1 << 20


def integer_tags(data: bytes, wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Read tags of the first directory.

    See TIFF 6.0, section 2, and BigTIFF, whose counts and offsets have 64 bits.

    Args:
        data: TIFF structure.
        wanted: Numbers of the tags.

    Returns:
        The values of those tags that exist and have integers. The first of repeated tags counts.

    Raises:
        struct.error: If the directory or a value lies beyond the end before all wanted tags are
            found, or if this is no TIFF structure.
    """
    order = ">" if data[:2] == b"MM" else "<"
    (version,) = _unpack(order + "H", data, 2)
    if data[:2] not in (b"II", b"MM") or version not in (42, 43):
        raise struct.error("no TIFF structure")
    start, number, word = (8, "Q", "Q") if version == 43 else (4, "H", "I")
    (directory,) = _unpack(order + word, data, start)
    (count,) = _unpack(order + number, data, directory)
    first, size = directory + struct.calcsize(number), struct.calcsize("<HH" + word * 2)
    found: dict[int, tuple[int, ...]] = {}
    for entry in range(first, first + size * min(count, _MAX_ENTRIES), size):
        tag, kind, length = _unpack(order + "HH" + word, data, entry)
        if tag in wanted and tag not in found and kind in _INTEGERS and length <= _MAX_VALUES:
            layout = f"{order}{length}{_INTEGERS[kind]}"
            value = entry + 4 + struct.calcsize(word)
            if struct.calcsize(layout) > struct.calcsize(word):
                # Values that do not fit in the entry are elsewhere: this is their offset.
                (value,) = _unpack(order + word, data, value)
            found[tag] = _unpack(layout, data, value)
            # Stop early, since a directory may claim more entries than it has.
            if len(found) == len(wanted):
                break
    return found


def directories(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Read the entries of the first directory and of its EXIF directories.

    Entries whose values lie beyond the end of the file are left out, as all readers do. A directory
    that is cut off ends there.

    Yields:
        Tag, type, number of values, and bytes of values outside the entry.
    """
    order = ">" if data[:2] == b"MM" else "<"
    start, number, word = (8, "Q", "Q") if data[2:4] in (b"\x2b\0", b"\0\x2b") else (4, "H", "I")
    layout = struct.Struct(f"{order}HH{word}{word}")
    # Values up to this size are in the entry itself.
    own = struct.calcsize(f"={word}")
    pending, seen = [_word(data, order + word, start)], set[int]()
    while pending and len(seen) <= len(_SUB_DIRECTORIES):
        directory = pending.pop()
        if (
            directory is None
            or directory in seen
            or (entries := _word(data, order + number, directory)) is None
        ):
            continue
        seen.add(directory)
        first = directory + struct.calcsize(f"={number}")
        last = min(first + layout.size * entries, len(data)) - layout.size
        for entry in range(first, last + 1, layout.size):
            tag, kind, count, offset = layout.unpack_from(data, entry)
            size = count * _SIZES.get(kind, 0)
            if size <= own:
                size = 0
            elif offset + size > len(data):
                continue
            yield tag, kind, count, size
            if tag in _SUB_DIRECTORIES and kind in (3, 4, 13, 16, 18) and count == 1:
                pending.append(
                    _word(data, order + ("H" if kind == 3 else word), entry + layout.size - own)
                )


def _word(data: bytes, layout: str, at: int) -> int | None:
    if at + struct.calcsize(layout) > len(data):
        return None
    value: int = struct.unpack_from(layout, data, at)[0]
    return value


def _unpack(layout: str, data: bytes, at: int) -> tuple[int, ...]:
    # struct would raise OverflowError for an offset of 2⁶³ or more.
    if at > len(data):
        raise struct.error("behind the end")
    return struct.unpack_from(layout, data, at)


def tiff_stops_early(data: bytes) -> bool:
    """Tell whether a TIFF's first directory, or its strips or tiles, exceed the file."""
    try:
        tags = integer_tags(data, (*STRIPS, *TILES))
    except struct.error:
        return True
    for offsets, counts in (STRIPS, TILES):
        pieces = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        if any(offset + count > len(data) for offset, count in pieces):
            return True
    return False
