"""The fast JPEG path: equal to Pillow's full decoding, and scaled."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import skimage
from PIL import Image

from tests.helpers.encoded import encode_jpeg as encode
from tests.helpers.encoded import failure
from transforms.decode.image import DecodePolicy, decode, jpeg
from transforms.decode.sniff import stops_early
from transforms.errors import FailureKind
from transforms.preprocess import Resize

POLICY = DecodePolicy()
SAMPLES = Path(skimage.__file__).parent / "data"
COFFEE = Image.open(SAMPLES / "coffee.png").convert("RGB")  # 600x400
PHOTOS = [
    "chelsea.png",
    "coffee.png",
    "astronaut.png",
    "retina.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
]


def with_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    return float(np.abs(a.astype(float) - b).mean())


VARIANTS = {
    "4:2:0": {"quality": 75},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "4:2:2": {"quality": 60, "subsampling": 1},
    "progressive": {"quality": 85, "progressive": True},
    "coded as RGB": {"quality": 90, "keep_rgb": True},
    "restart markers": {"quality": 90, "restart_marker_blocks": 5},
    "optimised": {"quality": 30, "optimize": True},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("size", [(600, 400), (451, 301), (17, 9), (1, 1), (1, 700)])
def test_the_fast_path_equals_pillow(options: dict[str, object], size: tuple[int, int]) -> None:
    data = encode(COFFEE.resize(size), **options)
    image = decode(data, POLICY)
    assert distance(image.pixels, with_pillow(data)) <= 1.0
    assert (image.format, image.width, image.height) == ("JPEG", *size)


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_samplings_that_turbojpeg_knows(sampling: str) -> None:
    data = simplejpeg.encode_jpeg(np.asarray(COFFEE).copy(), 90, colorsubsampling=sampling)
    assert distance(decode(data, POLICY).pixels, with_pillow(data)) <= 1.0


def multi_scan(image: Image.Image, factors: list[tuple[int, int]]) -> bytes:
    """A JPEG of any chroma sampling: one grayscale JPEG per component, their scans under a common header."""
    most = [max(factor[axis] for factor in factors) for axis in (0, 1)]
    scans, frame, shared = b"", b"", b""
    for number, (band, factor) in enumerate(
        zip(image.convert("YCbCr").split(), factors, strict=True), 1
    ):
        size = [
            -(-side * own // top) for side, own, top in zip(image.size, factor, most, strict=True)
        ]
        part = encode(band.resize(size, Image.Resampling.BOX), quality=95)
        segments = dict(segments_of(part))
        shared = segments[0xDB] + segments[0xC4]
        start = part.index(b"\xff\xda")
        scans += (
            b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, number, 0, 0, 63, 0) + part[start + 10 : -2]
        )
        frame += bytes([number, factor[0] << 4 | factor[1], 0])
    header = (
        b"\xff\xc0"
        + struct.pack(">HBHHB", 8 + len(frame), 8, image.height, image.width, len(factors))
        + frame
    )
    return b"\xff\xd8" + shared + header + scans + b"\xff\xd9"


def segments_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and all its segments, with their markers, up to the scan."""
    found: dict[int, bytes] = {}
    at = 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        found[data[at + 1]] = found.get(data[at + 1], b"") + data[at:end]
        at = end
    return iter(found.items())


ODD = {
    "3x1": [(3, 1), (1, 1), (1, 1)],
    "1x3": [(1, 3), (1, 1), (1, 1)],
    "4x2": [(4, 2), (1, 1), (2, 1)],
    "chroma of two kinds": [(2, 2), (2, 1), (1, 2)],
    "less luma than chroma": [(1, 1), (2, 2), (2, 2)],
    "plain, in three scans": [(1, 1), (1, 1), (1, 1)],
}


@pytest.mark.parametrize("factors", ODD.values(), ids=ODD)
def test_odd_samplings_give_the_picture(factors: list[tuple[int, int]]) -> None:
    image = COFFEE.resize((192, 128))
    data = multi_scan(image, factors)
    pixels = decode(data, POLICY).pixels
    assert distance(pixels, with_pillow(data)) <= 1.0
    small = Resize(32, 32)
    assert distance(small(decode(data, POLICY, target=(32, 32)).pixels), small(pixels)) <= 1.0
    assert distance(pixels, np.asarray(image)) < 12  # the sampling itself costs the rest
    assert failure(data[: len(data) // 2]).kind is FailureKind.TRUNCATED


def test_an_end_marker_within_a_comment_is_no_end() -> None:
    data = multi_scan(COFFEE.resize((192, 128)), ODD["3x1"])
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe" + struct.pack(">H", 8) + b"\xff\xd9" * 3
    assert decode(data[:second] + comment + data[second:], POLICY).width == 192
    assert failure(data[:second] + comment).kind is FailureKind.TRUNCATED


def test_what_lies_behind_the_end_does_not_count() -> None:
    data = encode(COFFEE)
    assert not stops_early(data + data[: len(data) // 2], "JPEG")  # a second picture, cut off
    assert stops_early(data[: len(data) // 2], "JPEG")


def test_grayscale_is_repeated() -> None:
    data = encode(COFFEE.convert("L"))
    assert distance(decode(data, POLICY).pixels, with_pillow(data)) <= 1.0


def adobe(data: bytes, transform: int | None) -> bytes:
    """The file with another transform in its Adobe marker (2 is YCCK), or without the marker."""
    at = data.index(b"\xff\xee")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
    marker = b"" if transform is None else data[at : end - 1] + bytes([transform])
    return data[:at] + marker + data[end:]


@pytest.mark.parametrize("transform", [0, 2, None], ids=["CMYK", "YCCK", "no marker"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_cmyk_and_ycck_equal_pillow(transform: int | None, subsampling: int) -> None:
    data = adobe(encode(COFFEE.convert("CMYK"), quality=95, subsampling=subsampling), transform)
    assert distance(decode(data, POLICY).pixels, with_pillow(data)) <= 1.0


def test_cmyk_has_the_colors_of_its_rgb() -> None:
    data = encode(COFFEE.convert("CMYK"), quality=95, subsampling=0)
    assert (
        distance(decode(data, POLICY).pixels, np.asarray(COFFEE)) < 4
    )  # inverted, it would be about 130


# Scaled decoding


@pytest.mark.parametrize(
    ("size", "orientation", "target", "expected"),
    [
        # 1/4 would leave 420 rows, less than twice 224
        ((2560, 1680), 1, (224, 224), 2),
        ((4032, 3024), 1, (224, 224), 4),
        ((4032, 3024), 1, (112, 112), 8),
        ((500, 375), 1, (224, 224), 1),
        ((4032, 3024), 1, None, 1),
        ((896, 896), 1, (224, 224), 2),
        ((1348, 1000), 1, (224, 224), 2),
        # 675 columns for 674.5: 1/6 of a pixel at the right edge
        ((1349, 1000), 1, (224, 224), 1),
        ((4001, 3000), 1, (224, 224), 2),  # 1/18 of a pixel
        ((4001, 3000), 6, (224, 224), 2),
        ((1000, 4000), 1, (400, 200), 2),
        ((1000, 4000), 1, (200, 400), 1),
        # Turned, the 1000 columns are the rows
        ((1000, 4000), 6, (200, 400), 2),
        ((1, 1), 1, (1, 1), 1),
    ],
)
def test_the_scale_keeps_twice_the_target(
    size: tuple[int, int], orientation: int, target: tuple[int, int] | None, expected: int
) -> None:
    header = jpeg.JpegHeader(size[1], size[0], 3, orientation, None)
    assert jpeg.scale_for(header, target) == expected


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    "options", [VARIANTS["4:2:0"], VARIANTS["4:4:4"], VARIANTS["progressive"]], ids=str
)
def test_scaled_decoding_gives_the_network_the_same_picture(
    name: str, options: dict[str, object]
) -> None:
    photo = Image.open(SAMPLES / name).convert("RGB")
    photo = photo.crop((0, 0, photo.width // 8 * 8, photo.height // 8 * 8))
    data = encode(photo, **options)
    target = (photo.height // 9, photo.width // 9)
    scaled, full = decode(data, POLICY, target), decode(data, POLICY)
    assert scaled.pixels.shape == (photo.height // 4, photo.width // 4, 3)
    assert (scaled.width, scaled.height) == photo.size
    assert distance(Resize(*target)(scaled.pixels), Resize(*target)(full.pixels)) < 0.8


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_are_scaled_too(mode: str) -> None:
    data = encode(COFFEE.convert(mode), quality=90)
    scaled = decode(data, POLICY, (100, 100)).pixels
    assert scaled.shape == (200, 300, 3)
    assert distance(Resize(100, 100)(scaled), Resize(100, 100)(decode(data, POLICY).pixels)) < 0.5


def test_a_turned_photo_is_scaled_by_its_upright_sides() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = encode(COFFEE), encode(COFFEE, exif=exif)
    pixels = decode(turned, POLICY, (300, 200)).pixels
    assert pixels.shape == (600, 400, 3)
    pixels = decode(turned, POLICY, (150, 100)).pixels
    assert (pixels == np.rot90(decode(plain, POLICY, (100, 150)).pixels, -1)).all()
    assert pixels.shape == (300, 200, 3)
