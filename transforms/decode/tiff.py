"""Integer tags of a TIFF structure's first directory, which EXIF blocks have too."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

_INTEGERS = {3: "H", 4: "I", 16: "Q"}  # SHORT, LONG, LONG8
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
STRIPS, TILES = (273, 279), (324, 325)  # offsets and byte counts
# EXIF, GPS, interoperability: read with the picture
_SUB_DIRECTORIES = (34665, 34853, 40965)
# Of a plain TIFF; BigTIFF's 64-bit counts allow any time to be spent
_MAX_ENTRIES = 65535
_MAX_VALUES = 1 << 20


def integer_tags(data: bytes, wanted: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Read those of the wanted tags that are there and hold integers; the first counts where one is repeated.

    TIFF 6.0, section 2, and BigTIFF, whose counts and offsets have 64 bits.

    Raises:
        struct.error: The directory, or a value, lies behind the end before all wanted tags are
            found; or this is no TIFF structure.
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
                # Too long for the entry: this is an offset
                (value,) = _unpack(order + word, data, value)
            found[tag] = _unpack(layout, data, value)
            # A directory may claim more entries than it has
            if len(found) == len(wanted):
                break
    return found


def directories(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tag, type, count, bytes) of each entry in the first directory and in those of its EXIF.

    Bytes are those that its values take elsewhere in the file; entries whose values lie behind the
    end are left out, as by all readers. A directory that is cut off ends there.
    """
    order = ">" if data[:2] == b"MM" else "<"
    start, number, word = (8, "Q", "Q") if data[2:4] in (b"\x2b\0", b"\0\x2b") else (4, "H", "I")
    layout = struct.Struct(f"{order}HH{word}{word}")
    # A value up to this size stands in its entry
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
    # Struct would raise OverflowError from 2⁶³ up
    if at > len(data):
        raise struct.error("behind the end")
    return struct.unpack_from(layout, data, at)


def tiff_stops_early(data: bytes) -> bool:
    """Whether the first directory, or the strips or tiles it names, reach behind the end of a TIFF file."""
    try:
        tags = integer_tags(data, (*STRIPS, *TILES))
    except struct.error:
        return True
    for offsets, counts in (STRIPS, TILES):
        pieces = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        if any(offset + count > len(data) for offset, count in pieces):
            return True
    return False
