"""PNG: what no picture needs costs no picture, and the one transparent gray of every depth counts."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from tests.helpers.encoded import difference, encode, failure, png, png_chunk
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind

POLICY = DecodePolicy()
PHOTO = (
    Image.open(Path(skimage.__file__).parent / "data/coffee.png").convert("RGB").resize((181, 121))
)
LARGE = zlib.compress(bytes(3 << 20))


def with_chunk(data: bytes, chunk: bytes) -> bytes:
    """The PNG with a chunk behind its header."""
    return data[:33] + chunk + data[33:]


def wrong_sum(chunk: bytes) -> bytes:
    return chunk[:-1] + bytes([chunk[-1] ^ 1])


ODD = {
    "large text": png_chunk(b"iTXt", b"key\0\1\0\0\0" + LARGE),
    "large compressed text": png_chunk(b"zTXt", b"key\0\0" + LARGE),
    "large profile": png_chunk(b"iCCP", b"name\0\0" + LARGE),
    "profile of unknown compression": png_chunk(b"iCCP", b"name\0\7" + LARGE),
    "empty profile": png_chunk(b"iCCP", b""),
    "wrong sum": wrong_sum(png_chunk(b"tEXt", b"key\0value")),
    "wrong sum of a transparency": wrong_sum(png_chunk(b"tRNS", bytes(6))),
    "short size": png_chunk(b"pHYs", b"\0\0"),
    "short gamma": png_chunk(b"gAMA", b"\0"),
    "short chromaticity": png_chunk(b"cHRM", b"\0" * 5),
    "empty intent": png_chunk(b"sRGB", b""),
    "short transparency": png_chunk(b"tRNS", b"\0"),
    "short animation": png_chunk(b"acTL", b"\0"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_metadata_costs_no_picture(case: str) -> None:
    data = with_chunk(encode(PHOTO, "PNG"), ODD[case])
    assert difference(decode(data, POLICY).pixels, np.asarray(PHOTO)) == 0


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT"])
def test_a_wrong_sum_of_a_critical_chunk_is_corrupt(name: bytes) -> None:
    data = encode(PHOTO, "PNG")
    at = data.index(name)
    end = at + 4 + int.from_bytes(data[at - 4 : at])
    broken = data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]
    assert failure(broken).kind is FailureKind.CORRUPT


def test_a_lost_palette_is_corrupt() -> None:
    data = encode(PHOTO.quantize(16), "PNG").replace(b"PLTE", b"pLTE")
    assert failure(data).kind is FailureKind.CORRUPT


def test_the_first_of_two_exif_blocks_counts() -> None:
    blocks = []
    for orientation in (6, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        blocks.append(png_chunk(b"eXIf", exif.tobytes()[6:]))
    assert decode(with_chunk(encode(PHOTO, "PNG"), blocks[0] + blocks[1]), POLICY).pixels.shape == (
        181,
        121,
        3,
    )


@pytest.mark.parametrize("upper_bits", [0, 0x100])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_one_transparent_gray_of_every_depth(depth: int, upper_bits: int) -> None:
    most = (1 << depth) - 1
    values = np.linspace(0, most, 16).round().astype(np.uint32)
    clear = int(values[4])
    bits = (values[:, None] >> np.arange(depth - 1, -1, -1) & 1).astype(np.uint8)
    header = struct.pack(">IIBBBBB", 16, 1, depth, 0, 0, 0, 0)
    tag = clear | (upper_bits if depth < 16 else 0)
    chunks = [
        png_chunk(b"IHDR", header),
        png_chunk(b"tRNS", struct.pack(">H", tag)),
        png_chunk(b"IDAT", zlib.compress(b"\0" + np.packbits(bits).tobytes())),
        png_chunk(b"IEND", b""),
    ]
    pixels = decode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), POLICY).pixels
    expected = np.where(values == clear, 255, np.rint(values * (255 / most)))
    assert difference(pixels, np.repeat(expected[None, :, None], 3, axis=2)) == 0


@pytest.mark.parametrize("interlaced", [False, True])
def test_the_one_transparent_color_of_16_bits(interlaced: bool) -> None:
    """Colors that differ in their low bytes only are others; 1.2 megapixels take two strips."""
    deep = np.random.default_rng(0).integers(0, 1 << 16, (1100, 1100, 3), np.uint16)
    deep[3:1090:50, 5:900] = clear = (0x1234, 0x5678, 0x9ABC)
    deep[7, 7], deep[8, 8] = (0x1235, 0x5678, 0x9ABC), (0x1234, 0x5678, 0x8ABC)
    expected = deep // 256
    expected[(deep == clear).all(-1)] = 255
    data = png(deep, 16, 2, png_chunk(b"tRNS", struct.pack(">HHH", *clear)), interlaced)
    assert difference(decode(data, POLICY).pixels, expected) == 0


def test_a_short_transparency_of_16_bit_colors_is_ignored() -> None:
    deep = np.full((4, 5, 3), 0x1234, np.uint16)
    assert (
        decode(png(deep, 16, 2, png_chunk(b"tRNS", b"\x12\x34" * 2)), POLICY).pixels == 0x12
    ).all()


def test_the_name_of_the_end_within_a_text_is_no_end() -> None:
    data = with_chunk(encode(PHOTO, "PNG"), png_chunk(b"tEXt", b"key\0IEND"))
    assert failure(data[: len(data) // 2]).kind is FailureKind.TRUNCATED
