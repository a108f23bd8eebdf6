"""PNG: what is read of a file besides its picture, since a decoder stops at metadata that no picture needs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from transforms.decode.structure import PatientFile
from transforms.errors import FailureKind, ImageError

_SIGNATURE_BYTES = 8
_STRIP_PIXELS = 1 << 20
# The same as for other formats; larger ones are ignored
_MOST_PROFILE_BYTES = 4 << 20
# Ancillary chunks; of each the first one counts
_READ = (b"tRNS", b"iCCP", b"eXIf")
_PICTURE = (b"IHDR", b"PLTE", b"IDAT")


@dataclass(frozen=True, slots=True)
class PngParts:
    """A PNG without its metadata, and those of them that count."""

    picture: bytes
    icc: bytes | None
    exif: bytes
    # The one transparent color of a 16-bit RGB picture; it is not in the picture
    clear: bytes


def split(data: bytes) -> PngParts:
    """Keep the critical chunks as they are, and pass over ancillary ones, as libpng does with broken ones.

    A chunk that is cut off is left in the picture: the decoder says what is wrong.

    Raises:
        ImageError: ``corrupt`` for a wrong check sum of the picture, which Pillow does not look at
            in full.
    """
    kept, found = [data[:_SIGNATURE_BYTES]], dict[bytes, bytes]()
    header = data[_SIGNATURE_BYTES + 8 : _SIGNATURE_BYTES + 21]
    for name, body, chunk in _chunks(data):
        if not (name.isalpha() and name[:1].islower()):
            if name in _PICTURE and not _sum_is_right(chunk):
                raise ImageError(
                    "decode", FailureKind.CORRUPT, f"PNG: wrong check sum of chunk {name.decode()}"
                )
            kept.append(chunk)
        elif name in _READ and name not in found and _sum_is_right(chunk):
            found[name] = body
            if name == b"tRNS" and not _is_rgb16(header):
                kept.append(_transparency(header, body))
    clear = found.get(b"tRNS", b"")[:6] if _is_rgb16(header) else b""
    return PngParts(
        b"".join(kept), _profile(found.get(b"iCCP", b"")), found.get(b"eXIf", b""), clear
    )


def opacity(image: Image.Image, parts: PngParts) -> Image.Image:
    """Where a loaded 16-bit RGB picture has its one transparent color: 0 there, else 255.

    Pillow keeps the high bytes only. Read as if it were little-endian, the picture gives the low
    ones.
    """
    alpha = Image.new("L", image.size, 255)
    with PngImagePlugin.PngImageFile(PatientFile(parts.picture, "PNG")) as low:
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        low.load()
        halves = (image, tuple(parts.clear[0::2])), (low, tuple(parts.clear[1::2]))
        rows = max(1, _STRIP_PIXELS // image.width)
        for top in range(0, image.height, rows):
            box = 0, top, image.width, min(top + rows, image.height)
            differs = [np.asarray(half.crop(box)) != color for half, color in halves]
            alpha.paste(
                Image.fromarray((differs[0] | differs[1]).any(-1).astype(np.uint8) * 255), box[:2]
            )
    return alpha


def _is_rgb16(header: bytes) -> bool:
    return header[8:10] == b"\x10\x02"


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Name, body and whole of each chunk; what is cut off comes last, without a name."""
    at = _SIGNATURE_BYTES
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if at + 12 > len(data) or end > len(data):
            yield b"", b"", data[at:]
            return
        name = data[at + 4 : at + 8]
        yield name, data[at + 8 : end - 4], data[at:end]
        if name == b"IEND":
            return
        at = end


def _sum_is_right(chunk: bytes) -> bool:
    return zlib.crc32(memoryview(chunk)[4:-4]) == int.from_bytes(chunk[-4:])


def _transparency(header: bytes, body: bytes) -> bytes:
    """The tRNS chunk, nothing if it is too short; a gray of less than 8 bits is scaled as Pillow scales its pixels."""
    if len(header) < 13:
        return b""
    depth, color = header[8:10]
    if len(body) < {0: 2, 2: 6}.get(color, 1):
        return b""
    if color == 0 and depth <= 8:
        most = (1 << depth) - 1
        body = struct.pack(
            ">H", (int.from_bytes(body[:2]) & most) * 255 // most
        )  # other bits do not count
    return (
        struct.pack(">I", len(body))
        + b"tRNS"
        + body
        + struct.pack(">I", zlib.crc32(b"tRNS" + body))
    )


def _profile(body: bytes) -> bytes | None:
    """Inflate an ICC profile; None if it is broken or huge."""
    _, _, rest = body.partition(b"\0")
    if rest[:1] != b"\0":  # the one method of compression
        return None
    inflate = zlib.decompressobj()
    try:
        icc = inflate.decompress(rest[1:], _MOST_PROFILE_BYTES)
    except zlib.error:
        return None
    return icc if inflate.eof else None
