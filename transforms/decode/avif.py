"""Count the pixels of all frames that an AVIF decoder would decode, whatever the header says.

libavif decodes each picture of a file at its own size, and then scales it to the size in the
header. A file of 900 bytes whose header says 64x64 may hold 256 frames of 268 megapixels, besides
frames that are never shown. Boxes are defined in ISO/IEC 14496-12 and 23008-12, open bitstream
units (OBUs) in AV1 (specification 1.0.0, 5.3 to 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

# Types of OBUs.
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
# Max pixels of a frame: libavif refuses larger ones.
_MAX_FRAME = 1 << 28
# Max OBUs of all pictures. A picture has some three, and one for each group of tiles.
_MAX_UNITS = 1 << 14
_TRACK = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def coded_pixels(data: bytes) -> int:
    """Return the max number of pixels that decoding the first picture computes; 0 if there is none.

    Raises:
        ValueError: For a structure that no encoder writes and that would take long to count.
    """
    pixels = units = 0
    for picture in chain(_items(data), _first_samples(data)):
        frames = largest = 0
        for kind, payload in _units(picture):
            units += 1
            if units > _MAX_UNITS:
                raise ValueError(f"its pictures come in more than {_MAX_UNITS} pieces")
            if kind == _SEQUENCE_HEADER:
                largest = max(largest, _largest_frame(bytes(payload[:1024])))
            frames += kind in (_FRAME_HEADER, _FRAME)
        pixels += frames * min(largest, _MAX_FRAME)
    return pixels


def item_count(data: bytes) -> int:
    """Return the number of items (pictures, tiles, metadata) that the file claims to have."""
    for start, _ in _find(data, 0, len(data), b"meta", b"iinf"):
        return _number(data, start + 4, 2 if data[start : start + 1] == b"\0" else 4)
    return 0


def _items(data: bytes) -> Iterator[memoryview]:
    """Yield the bytes of each item that is an AV1 picture."""
    kinds = {}
    for start, end in _find(data, 0, len(data), b"meta", b"iinf"):
        for name, at, _ in _boxes(
            data, start + (6 if data[start : start + 1] == b"\0" else 8), end
        ):
            if name == b"infe":
                width = 2 if _number(data, at, 1) < 3 else 4
                kinds[_number(data, at + 4, width)] = data[at + 6 + width : at + 10 + width]
    for item, extents in _extents(data):
        if kinds.get(item) == b"av01":
            if sum(length for _, length in extents) > len(data):
                raise ValueError("a picture in it is larger than the file")
            pieces = [memoryview(data)[start : start + length] for start, length in extents]
            yield pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))


def _extents(data: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield the number of each item, and start and length of its pieces in the file."""
    inside = next((start for start, _ in _find(data, 0, len(data), b"meta", b"idat")), 0)
    for at, end in _find(data, 0, len(data), b"meta", b"iloc"):
        version, sizes = _number(data, at, 1), _number(data, at + 4, 2)
        of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        wide = 2 if version < 2 else 4
        count, at = _number(data, at + 6, wide), at + 6 + wide
        for _ in range(count):
            item, at = _number(data, at, wide), at + wide
            method, at = (_number(data, at, 2) & 15, at + 2) if version else (0, at)
            base, at = _number(data, at + 2, of_base), at + 2 + of_base
            if method == 1:
                base += inside
            pieces, at = _number(data, at, 2), at + 2
            extents = []
            for _ in range(min(pieces, end - at)):
                at += of_index if version else 0
                offset, length = (
                    _number(data, at, of_offset),
                    _number(data, at + of_offset, of_length),
                )
                extents.append((base + offset, length))
                at += of_offset + of_length
            yield item, extents
            if at >= end:
                return


def _first_samples(data: bytes) -> Iterator[memoryview]:
    """Yield the first picture of each track of an animation."""
    for start, end in _find(data, 0, len(data), *_TRACK):
        table = {name: at for name, at, _ in _boxes(data, start, end)}
        width = 4 if b"stco" in table else 8
        place = table.get(b"stco", table.get(b"co64"))
        if place is not None and b"stsz" in table:
            size = _number(data, table[b"stsz"] + 4, 4) or _number(data, table[b"stsz"] + 12, 4)
            offset = _number(data, place + 8, width)
            yield memoryview(data)[offset : offset + size]


def _find(data: bytes, start: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the content of each box on a path of names."""
    for name, at, stop in _boxes(data, start, end):
        if name == path[0]:
            # The content of "meta" starts with a version of 4 bytes.
            at += 4 if name == b"meta" else 0
            if path[1:]:
                yield from _find(data, at, stop, *path[1:])
            else:
                yield at, stop


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each box, and start and end of its content."""
    while at + 8 <= end:
        size, head = _number(data, at, 4), 8
        if size == 1:
            size, head = _number(data, at + 8, 8), 16
        size = min(size, end - at) if size else end - at
        yield data[at + 4 : at + 8], at + head, at + size
        at += max(size, 8)


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width])


def _units(picture: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of each open bitstream unit."""
    at = 0
    while at < len(picture):
        kind, extended, sized = picture[at] >> 3 & 15, picture[at] >> 2 & 1, picture[at] >> 1 & 1
        at += 1 + extended
        size, at = _leb128(picture, at) if sized else (len(picture) - at, at)
        yield kind, picture[at : at + size]
        at += size


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    """Read a number of 7 bits per byte, lowest first; return it and the position after it."""
    value = 0
    for place in range(8):
        byte = data[at + place] if at + place < len(data) else 0
        value |= (byte & 127) << 7 * place
        if byte < 128:
            break
    return value, at + place + 1


class _Bits:
    """A bitstream that is read from its start, with zeros after its end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & (1 << count) - 1


def _largest_frame(header: bytes) -> int:
    """Return the pixels of the largest frame that a sequence header (AV1, 5.5.1) allows."""
    bits = _Bits(header)
    bits.take(4)  # profile, still_picture
    if reduced := bits.take(1):
        bits.take(5)
    else:
        _skip_timing_and_points(bits)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(wide) + 1, bits.take(high) + 1
    # Unless reduced, a frame's own header may give any size that fits in the bits.
    return width * height if reduced else 1 << wide + high


def _skip_timing_and_points(bits: _Bits) -> None:
    delays = None
    if bits.take(1):  # timing_info
        bits.take(64)
        # If equal_picture_interval is set, a number follows: first as many zeros as it has bits.
        if bits.take(1):
            zeros = 0
            while zeros < 32 and not bits.take(1):
                zeros += 1
            bits.take(zeros if zeros < 32 else 0)
        if bits.take(1):  # decoder_model_info
            delays = bits.take(5) + 1
            bits.take(42)
    display = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delays is not None and bits.take(1):
            bits.take(2 * delays + 1)
        if display and bits.take(1):
            bits.take(4)
