"""Decode TIFFs with unusual kinds of values, and with tags that do not match the bytes."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
import skimage
import tifffile
from PIL import Image, ImageCms

from tests.helpers.encoded import SRGB, difference, encode, failure, profile, tiff
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind

POLICY = DecodePolicy()
PHOTO = (
    Image.open(Path(skimage.__file__).parent / "data/coffee.png").convert("RGB").resize((181, 121))
)
PIXELS = np.asarray(PHOTO)
LAB = ImageCms.profileToProfile(
    PHOTO, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
)
STORED_LAB = tifffile.imread(io.BytesIO(encode(LAB, "TIFF")))


def gray_tiff(
    order: str, photometric: int, values: np.ndarray, bits: int, compressed: bool = False
) -> bytes:
    """Make a TIFF of one strip, with any number of bits per value."""
    height, width = values.shape
    places = np.arange(bits - 1, -1, -1)
    rows = (np.packbits((row.reshape(-1, 1) >> places & 1).astype(np.uint8)) for row in values)
    body = b"".join(row.tobytes() for row in rows)
    body = zlib.compress(body) if compressed else body
    tags = {256: width, 257: height, 258: bits, 259: 8 if compressed else 1, 262: photometric}
    tags |= {273: 8, 277: 1, 278: height, 279: len(body)}
    directory = struct.pack(f"{order}H", len(tags))
    directory += b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()
    )
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}I", 8 + len(body)) + body + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("compressed", [False, True])
def test_12_bit_values_are_scaled_to_white(order: str, photometric: int, compressed: bool) -> None:
    # The width is odd, so that rows end within a byte.
    values = np.arange(4095, -1, -1).reshape(64, 64)[:, :63]
    expected = np.rint((values if photometric else 4095 - values) * (255 / 4095))
    pixels = decode(gray_tiff(order, photometric, values, 12, compressed), POLICY).pixels
    assert difference(pixels, np.dstack([expected] * 3)) == 0
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bits_of_ink_are_inverted_in_either_order(order: str, compression: str | None) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = tiff(values, photometric="miniswhite", byteorder=order, compression=compression)
    expected = 255 - np.rint(values * (255 / 65535))
    assert difference(decode(data, POLICY).pixels, np.dstack([expected] * 3)) == 0


def test_ink_is_inverted_before_its_profile_is_applied() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    icc = profile(None, 1.25)
    light, ink = (
        decode(tiff(array, photometric=kind, iccprofile=icc), POLICY).pixels
        for array, kind in ((values, "minisblack"), (65535 - values, "miniswhite"))
    )
    assert (light == ink).all()
    # The profile is applied.
    assert light[128, 0, 0] > 150


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"rowsperstrip": 7}], ids=repr)
@pytest.mark.parametrize("alpha", [False, True])
def test_uncompressed_planes_of_16_bits_are_read(
    order: str, options: dict[str, object], alpha: bool
) -> None:
    opaque = np.full((121, 181, 1), 65535, np.uint16)
    deep = np.dstack([PIXELS.astype(np.uint16) * 257, *([opaque] if alpha else [])])
    extra = {"extrasamples": ["unassalpha"]} if alpha else {}
    planes = deep.transpose(2, 0, 1).copy()
    data = tiff(
        planes, photometric="rgb", planarconfig="separate", byteorder=order, **extra, **options
    )
    assert difference(decode(data, POLICY).pixels, PIXELS) == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (32, 32)}, {"rowsperstrip": 7}, {"compression": "zlib"}, {"byteorder": ">"}],
    ids=repr,
)
def test_lab_is_converted_from_white_d50(options: dict[str, object]) -> None:
    pixels = decode(tiff(STORED_LAB, photometric="cielab", **options), POLICY).pixels
    assert np.abs(pixels.astype(float) - PIXELS).mean() < 1
    # 8 bits of Lab are coarser than those of sRGB.
    assert difference(pixels, PIXELS) <= 6


def test_lab_has_its_defined_values() -> None:
    """Convert by definition to XYZ and sRGB; L is 0 to 100 in a byte, a and b are signed."""
    light, red, blue = (
        STORED_LAB[..., 0] / 255 * 100,
        *np.moveaxis(STORED_LAB.view(np.int8)[..., 1:] * 1.0, -1, 0),
    )
    y = (light + 16) / 116
    roots = np.stack([y + red / 500, y, y - blue / 200], -1)
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * (
        0.9642,
        1,
        0.8249,
    )
    linear = np.clip(xyz @ np.linalg.inv(np.array(SRGB)), 0, 1)
    expected = 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    pixels = decode(encode(LAB, "TIFF"), POLICY).pixels
    assert np.abs(pixels - expected).mean() < 0.8
    # LittleCMS interpolates between 33 values of each channel.
    assert difference(pixels, expected) <= 5


def test_a_profile_of_rgb_does_not_count_for_lab() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = decode(encode(LAB, "TIFF"), POLICY).pixels
    assert (decode(encode(LAB, "TIFF", icc_profile=srgb), POLICY).pixels == plain).all()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_lab_planes_are_refused(compression: str | None) -> None:
    planes = STORED_LAB.transpose(2, 0, 1).copy()
    error = failure(
        tiff(planes, photometric="cielab", planarconfig="separate", compression=compression)
    )
    assert (error.kind, error.message[:20]) == (FailureKind.UNSUPPORTED, "a TIFF of Lab planes")


def test_markers_in_the_metadata_of_a_tiff_are_no_scans() -> None:
    """Many small tiles have as many scans, but each is a pass over its own tile only."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    image = pyvips.Image.new_from_array(pixels, interpretation="srgb")
    data = image.tiffsave_buffer(compression="jpeg", tile=True, tile_width=16, tile_height=16)
    plain = decode(data, POLICY).pixels
    policy = DecodePolicy(max_pixels=512 * 512)
    assert np.array_equal(decode(data + b"\xff\xc2" + b"\xff\xda" * 100, policy).pixels, plain)
