"""What a file's structure may cost: limits on everything in it that is not pixels.

A decoder's time and memory follow the pixels, which are limited, and the file's own structure:
blocks, chunks, tags, scans. Written to harm, a structure of a few kilobytes costs hours or all
memory, in Pillow 12.3: a BMP of 1 kB asked for 25 GB, a TIFF of 1 MB for 2 GB, a GIF of 100 MB took
5 minutes. Real files stay far below each limit.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

from transforms.decode import avif
from transforms.decode.markers import scan_count
from transforms.decode.tiff import STRIPS, TILES, directories, integer_tags
from transforms.errors import FailureKind, ImageError

_MOST_READS = {"PNG": 1 << 18, "GIF": 1 << 15, "TIFF": 1 << 20, "BMP": 1 << 23, "JPEG": 1 << 16}
_FEW_READS = 64  # WebP and AVIF are read whole
# Of a PNG, pictures aside; each may inflate to 1 MB, which takes 2 ms
_MOST_CHUNKS = 256
_PICTURE_CHUNKS = (b"IDAT", b"fdAT", b"fcTL")
# Of a BMP; Python does them one by one, in 60 ns
_MOST_RLE_PIXELS = 1 << 24
_MOST_RLE_WIDTH = 1 << 16  # a jump of two bytes makes 256 rows
# Of a TIFF directory; cameras write 60
_MOST_TAGS = 1024
# Of a tag: strips or tiles; 100 megapixels have 400,000 tiles of 16x16
_MOST_VALUES = 1 << 20
# Over --max-pixels, by a progressive JPEG in a TIFF
_MOST_PASSES = 20
# Of an AVIF: tiles, alpha, metadata; each is decoded by itself
_MOST_ITEMS = 256
# Of an AVIF's pixels: its colors, its alpha, and smaller pictures beside them
_MOST_COPIES = 3
_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _ROWS, _COMPRESSION = (1, 2, 6, 7), 322, 323, 278, 259
_JPEG_COMPRESSIONS = ((6,), (7,))


class PatientFile(io.BytesIO):
    """A file that a decoder may ask only so often: every loop of Pillow's own is a loop of reads."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._left = _MOST_READS.get(name, _FEW_READS)

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _too_intricate("it has too many pieces")
        return super().read(size)


def check_structure(data: bytes, name: str, max_pixels: int) -> None:
    """Refuse a file whose structure costs more than its picture.

    Raises:
        ImageError: ``unsupported`` for more pieces than any real file has, ``corrupt`` for what no
            file can be, ``too_many_pixels`` for a tile.
    """
    check = _CHECKS.get(name)
    if check:
        check(data, max_pixels)


def _too_intricate(seen: str) -> ImageError:
    return ImageError(
        "decode", FailureKind.UNSUPPORTED, f"not read for safety: {seen}; save the picture anew"
    )


def _check_png(data: bytes, _: int) -> None:
    at, others = 8, 0
    while at + 8 <= len(data) and others <= _MOST_CHUNKS:
        name = data[at + 4 : at + 8]
        if name == b"IEND":
            return
        others += name not in _PICTURE_CHUNKS
        at += 12 + int.from_bytes(data[at : at + 4])
    if others > _MOST_CHUNKS:
        raise _too_intricate(f"PNG of more than {_MOST_CHUNKS} chunks besides its picture")


def _check_bmp(data: bytes, _: int) -> None:
    if (
        len(data) < 34
        or data[14:18] == b"\x0c\0\0\0"
        or int.from_bytes(data[30:34], "little") not in (1, 2)
    ):
        return  # not run-length encoded
    width, height = struct.unpack_from("<ii", data, 18)
    if abs(width * height) > _MOST_RLE_PIXELS or abs(width) > _MOST_RLE_WIDTH:
        raise _too_intricate(f"run-length encoded BMP of {width}x{abs(height)} pixels")


def _check_tiff(data: bytes, max_pixels: int) -> None:
    total = 0
    for number, (tag, kind, count, size) in enumerate(directories(data)):
        total += size
        if number >= _MOST_TAGS or (count > _MOST_VALUES and kind not in _BYTES):
            raise _too_intricate(
                f"TIFF with a directory of {number + 1} entries, tag {tag} with {count} values"
            )
    # Two tags may share a number, but not all of them the whole file
    if total > len(data) + 4096:
        raise ImageError(
            "decode", FailureKind.CORRUPT, f"TIFF: its tags claim {total} of its {len(data)} bytes"
        )
    try:
        tags = integer_tags(data, (256, 257, _TILE_WIDTH, _TILE_HEIGHT, _ROWS, _COMPRESSION))
    except struct.error:
        return
    sides = [tags.get(tag, (0,))[:1] or (0,) for tag in (256, 257, _TILE_WIDTH, _TILE_HEIGHT)]
    (width,), (height,), (tile_width,), (tile_height,) = sides
    (rows,) = tags.get(_ROWS, ())[:1] or (height,)
    if tile_width * tile_height > max_pixels:
        message = f"its tiles have {tile_width}x{tile_height} pixels; at most {max_pixels} are read"
        raise ImageError("decode", FailureKind.TOO_MANY_PIXELS, message)
    if tags.get(_COMPRESSION) in _JPEG_COMPRESSIONS:
        piece = tile_width * tile_height or width * min(rows, height)
        _check_tiff_scans(data, (width * height, piece), max_pixels)


def _check_tiff_scans(data: bytes, pixels: tuple[int, int], max_pixels: int) -> None:
    """Refuse too many passes; ``pixels`` are those of the picture, and of a strip or tile."""
    scans = data.count(b"\xff\xda")  # those of metadata too
    if scans * pixels[0] <= _MOST_PASSES * max_pixels:
        return
    found = _piece_scans(data)
    if found is not None:
        scans = sum(found)
    if scans * pixels[found is not None] > _MOST_PASSES * max_pixels:
        raise _too_intricate(f"TIFF of progressive JPEGs with {scans} scans")


def _piece_scans(data: bytes) -> list[int] | None:
    """The scans of each strip or tile; None where the file does not say clearly where these are."""
    tags = integer_tags(data, (*STRIPS, *TILES))
    offsets, counts = (tags.get(tag, ()) for tag in (TILES if TILES[0] in tags else STRIPS))
    pieces = list(zip(offsets, counts, strict=False))
    if not pieces or len(offsets) != len(counts) or 0 in counts:
        return None
    different = set(pieces)  # blank tiles may share one
    if sum(count for _, count in different) > len(data):
        return None
    scans = {(at, count): scan_count(data[at : at + count]) for at, count in different}
    return [scans[piece] for piece in pieces]


def _check_avif(data: bytes, max_pixels: int) -> None:
    count = avif.item_count(data)
    if count > _MOST_ITEMS:
        raise _too_intricate(f"AVIF of {count} items")
    pixels = avif.coded_pixels(data)
    if pixels > _MOST_COPIES * max_pixels:
        message = f"its pictures, shown or not, have {pixels} pixels; at most {_MOST_COPIES * max_pixels} are read"
        raise ImageError("decode", FailureKind.TOO_MANY_PIXELS, message)


_CHECKS: dict[str, Callable[[bytes, int], None]] = {
    "PNG": _check_png,
    "BMP": _check_bmp,
    "TIFF": _check_tiff,
    "AVIF": _check_avif,
}
