"""Make files for the tests of decoding, and compare pixels and failures."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from transforms.decode.image import DecodePolicy, decode
from transforms.errors import ImageError

ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def encode_jpeg(image: Image.Image, **options: object) -> bytes:
    return encode(image, "JPEG", **options)


def tiff(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(
    array: np.ndarray, depth: int, color: int, chunks: bytes = b"", interlaced: bool = False
) -> bytes:
    """Make a PNG of a [H, W] or [H, W, C] array; each value takes ``depth`` bits."""
    height, width = array.shape[:2]
    raw = b""
    for top, left, down, right in ADAM7 if interlaced else ((0, 0, 1, 1),):
        for row in array[top::down, left::right]:
            if row.size:
                bits = row.reshape(-1, 1).astype(np.uint32) >> np.arange(depth - 1, -1, -1) & 1
                raw += b"\0" + np.packbits(bits.astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    body = (
        png_chunk(b"IHDR", header)
        + chunks
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp_with(data: bytes, chunk: bytes, behind: bytes) -> bytes:
    """Insert a chunk into a WebP, behind the named one."""
    at, name = 12, b""
    while name != behind:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    body = data[8:at] + chunk + data[at:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def failure(data: bytes, policy: DecodePolicy | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, policy or DecodePolicy())
    assert caught.value.stage == "decode"
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    return caught.value


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(float) - expected).max())


# Columns of the matrix to XYZ (D50) of ICC's white: Display P3 has sRGB's blue and a wider red and
# green.
P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]


SRGB = [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]


def profile(columns: list[tuple[float, float, float]] | None, gamma: float) -> bytes:
    """Make a version 2 matrix profile (ICC.1:2001-04), or a gray one without columns."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(*white),
    }
    if columns:
        for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
            tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column), name + b"TRC": curve}
    else:
        tags[b"kTRC"] = curve
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    space = b"RGB " if columns else b"GRAY"
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", space, b"XYZ ", b"acsp"
    )
    return head + fixed(*white) + bytes(48) + table + body
