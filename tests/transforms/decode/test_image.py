"""What decoding gives for every format and mode: the policies of docs/decoding.md, on files made here."""

import struct
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, features

from tests.helpers.encoded import difference, encode, png, png_chunk, tiff
from transforms.decode.image import DecodePolicy, decode

POLICY = DecodePolicy()
SAMPLES = Path(skimage.__file__).parent / "data"
PHOTO = Image.open(SAMPLES / "coffee.png").convert("RGB").resize((181, 121))
PIXELS = np.asarray(PHOTO)
GRAY = np.asarray(PHOTO.convert("L"))


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[..., None] / 255
    return color * opacity + 255 * (1 - opacity)


LOSSLESS = {
    "png": (encode(PHOTO, "PNG"), "PNG"),
    "png interlaced": (png(PIXELS, 8, 2, interlaced=True), "PNG"),
    "png 16 bit": (png(PIXELS.astype(np.uint16) * 257, 16, 2), "PNG"),
    "bmp": (encode(PHOTO, "BMP"), "BMP"),
    "webp lossless": (encode(PHOTO, "WEBP", lossless=True), "WEBP"),
    "tiff": (encode(PHOTO, "TIFF"), "TIFF"),
    "tiff lzw": (encode(PHOTO, "TIFF", compression="tiff_lzw"), "TIFF"),
    "tiff deflate": (encode(PHOTO, "TIFF", compression="tiff_adobe_deflate"), "TIFF"),
    "tiff tiled": (tiff(PIXELS, photometric="rgb", tile=(64, 64)), "TIFF"),
    "tiff big endian": (tiff(PIXELS, photometric="rgb", byteorder=">"), "TIFF"),
    "tiff planar": (
        tiff(PIXELS.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
        "TIFF",
    ),
    "tiff 16 bit": (tiff(PIXELS.astype(np.uint16) * 257, photometric="rgb"), "TIFF"),
    "tiff 16 bit planar": (
        tiff(
            PIXELS.transpose(2, 0, 1).astype(np.uint16) * 257,
            photometric="rgb",
            planarconfig="separate",
            compression="zlib",
        ),
        "TIFF",
    ),
    "tiff tiled 16 bit big endian": (
        tiff(
            PIXELS.astype(np.uint16) * 257,
            photometric="rgb",
            tile=(64, 64),
            byteorder=">",
            compression="zlib",
        ),
        "TIFF",
    ),
    "bigtiff": (tiff(PIXELS, photometric="rgb", bigtiff=True), "TIFF"),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_a_lossless_file_gives_its_pixels(case: str) -> None:
    data, name = LOSSLESS[case]
    image = decode(data, POLICY)
    assert difference(image.pixels, PIXELS) == 0
    assert (image.format, image.width, image.height) == (name, 181, 121)


@pytest.mark.parametrize(
    ("name", "options", "mean_limit"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 3),
        ("WEBP", {"quality": 95}, 3),
        ("AVIF", {"quality": 95}, 3),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 3),
        ("GIF", {}, 6),
    ],
)
def test_a_lossy_file_gives_nearly_its_pixels(
    name: str, options: dict[str, object], mean_limit: float
) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    image = decode(encode(PHOTO, name, **options), POLICY)
    assert image.format == name
    assert image.pixels.shape == PIXELS.shape
    assert np.abs(image.pixels.astype(float) - PIXELS).mean() < mean_limit


PALETTE = PHOTO.quantize(200)
BITS = GRAY > 128
GRAYS = {
    "png gray": (encode(PHOTO.convert("L"), "PNG"), GRAY),
    "png 1 bit": (png(BITS, 1, 0), BITS * 255),
    "png 1 bit interlaced": (png(BITS, 1, 0, interlaced=True), BITS * 255),
    "tiff 1 bit": (encode(Image.fromarray(BITS), "TIFF", compression="group4"), BITS * 255),
    "bmp 1 bit": (encode(Image.fromarray(BITS), "BMP"), BITS * 255),
    "tiff gray, white is zero": (tiff(GRAY, photometric="miniswhite"), 255 - GRAY),
}


@pytest.mark.parametrize("case", GRAYS)
def test_gray_is_repeated_in_three_channels(case: str) -> None:
    data, gray = GRAYS[case]
    assert difference(decode(data, POLICY).pixels, np.dstack([gray] * 3)) == 0


@pytest.mark.parametrize("name", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_palette_gives_its_colors(name: str) -> None:
    assert (
        difference(decode(encode(PALETTE, name), POLICY).pixels, np.asarray(PALETTE.convert("RGB")))
        == 0
    )


EVERY_16_BIT = np.arange(65536, dtype=np.uint16).reshape(256, 256)
SCALED = np.rint(EVERY_16_BIT * (255 / 65535))


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        (png(EVERY_16_BIT, 16, 0), 0),
        (tiff(EVERY_16_BIT, photometric="minisblack"), 0),
        (tiff(EVERY_16_BIT, photometric="minisblack", byteorder=">", compression="zlib"), 0),
        (tiff(65535 - EVERY_16_BIT, photometric="miniswhite"), 0),
        (
            png(np.dstack([EVERY_16_BIT] * 3), 16, 2),
            1,
            # Pillow keeps the high byte of 16-bit colors
        ),
        (tiff(np.dstack([EVERY_16_BIT] * 3), photometric="rgb"), 1),
    ],
    ids=[
        "png gray",
        "tiff gray",
        "tiff gray big endian",
        "tiff white is zero",
        "png color",
        "tiff color",
    ],
)
def test_16_bit_values_are_scaled_not_cut(case: bytes, tolerance: int) -> None:
    pixels = decode(case, POLICY).pixels
    assert difference(pixels, np.dstack([SCALED] * 3)) <= tolerance
    assert abs(pixels.mean() - SCALED.mean()) < 0.01


ALPHA = np.tile(np.linspace(0, 255, 181).astype(np.uint8), (121, 1))
RGBA = Image.fromarray(np.dstack([PIXELS, ALPHA]))
GRAY_RGB = np.dstack([GRAY] * 3)
ONE_IS_CLEAR = np.where(np.asarray(PALETTE) == 7, 0, 255)
TRANSPARENT = {
    "png": (encode(RGBA, "PNG"), on_white(PIXELS, ALPHA)),
    "png 16 bit": (png(np.asarray(RGBA).astype(np.uint16) * 257, 16, 6), on_white(PIXELS, ALPHA)),
    "png gray": (png(np.dstack([GRAY, ALPHA]), 8, 4), on_white(GRAY_RGB, ALPHA)),
    "png gray 16 bit": (
        png(np.dstack([GRAY, ALPHA]).astype(np.uint16) * 257, 16, 4),
        on_white(GRAY_RGB, ALPHA),
    ),
    "png one palette entry": (
        encode(PALETTE, "PNG", transparency=7),
        on_white(np.asarray(PALETTE.convert("RGB")), ONE_IS_CLEAR),
    ),
    "png palette of alphas": (
        encode(PALETTE, "PNG", transparency=bytes(range(200))),
        on_white(np.asarray(PALETTE.convert("RGB")), np.asarray(PALETTE)),
    ),
    "png one gray": (
        png(GRAY, 8, 0, png_chunk(b"tRNS", struct.pack(">H", 90))),
        on_white(GRAY_RGB, np.where(GRAY == 90, 0, 255)),
    ),
    "png one 16-bit gray": (
        png(GRAY.astype(np.uint16) * 257, 16, 0, png_chunk(b"tRNS", struct.pack(">H", 90 * 257))),
        on_white(GRAY_RGB, np.where(GRAY == 90, 0, 255)),
    ),
    "png one color": (
        png(PIXELS, 8, 2, png_chunk(b"tRNS", struct.pack(">HHH", *PIXELS[5, 5]))),
        on_white(PIXELS, np.where((PIXELS[5, 5] == PIXELS).all(-1), 0, 255)),
    ),
    "gif": (
        encode(PALETTE, "GIF", transparency=7),
        on_white(np.asarray(PALETTE.convert("RGB")), ONE_IS_CLEAR),
    ),
    "webp": (encode(RGBA, "WEBP", lossless=True, exact=True), on_white(PIXELS, ALPHA)),
    "tiff": (encode(RGBA, "TIFF"), on_white(PIXELS, ALPHA)),
    "tiff premultiplied": (
        tiff(
            np.dstack([np.rint(PIXELS * (ALPHA[..., None] / 255)).astype(np.uint8), ALPHA]),
            photometric="rgb",
            extrasamples=["assocalpha"],
        ),
        on_white(PIXELS, ALPHA),
    ),
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_alpha_is_composed_on_white(case: str) -> None:
    data, expected = TRANSPARENT[case]
    assert (
        difference(decode(data, POLICY).pixels, expected) <= 1.5
        # A premultiplied file is rounded twice
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("GIF", {}),
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_the_first_frame_is_taken(name: str, options: dict[str, object]) -> None:
    first, second = (
        Image.new("RGB", (40, 30), (200, 30, 60)),
        Image.new("RGB", (40, 30), (20, 130, 250)),
    )
    data = encode(first, name, save_all=True, append_images=[second, second], **options)
    image = decode(data, POLICY)
    assert image.format == name
    assert difference(image.pixels, np.asarray(first)) <= 2


def test_a_strip_of_a_large_picture_meets_the_next_one() -> None:
    large = np.random.default_rng(0).integers(
        0, 256, (1500, 1600, 4), np.uint8
    )  # 2.4 megapixels: three strips
    expected = on_white(large[..., :3], large[..., 3])
    assert (
        difference(
            decode(encode(Image.fromarray(large), "PNG", compress_level=1), POLICY).pixels, expected
        )
        <= 1
    )


@pytest.mark.parametrize("header_size", [108, 124])
@pytest.mark.parametrize("used", [False, True])
def test_an_alpha_of_zeros_in_a_bmp_is_opaque(header_size: int, used: bool) -> None:
    alpha = ALPHA if used else np.zeros_like(ALPHA)
    body = np.dstack([PIXELS[..., ::-1], alpha])[::-1].tobytes()
    sizes = struct.pack("<IiiHHIIiiII", header_size, 181, 121, 1, 32, 3, len(body), 0, 0, 0, 0)
    header = sizes + struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs"
    header += bytes(header_size - len(header))
    start = 14 + header_size
    data = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + body
    expected = on_white(PIXELS, ALPHA) if used else PIXELS
    assert difference(decode(data, POLICY).pixels, expected) <= 1
