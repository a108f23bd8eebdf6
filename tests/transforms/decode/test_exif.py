"""EXIF: its orientation is applied in every format, and a broken block costs nothing."""

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from tests.helpers.encoded import difference, encode, riff_chunk, webp_with
from transforms.decode.image import DecodePolicy, decode

POLICY = DecodePolicy()
PHOTO = (
    Image.open(Path(skimage.__file__).parent / "data/coffee.png").convert("RGB").resize((181, 121))
)
PIXELS = np.asarray(PHOTO)
# EXIF 2.32, §4.6.4: which sides of the picture the stored row 0 and column 0 are.
TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS),
}


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x010F] = "a camera"
    block[0x0112] = orientation
    return block.tobytes()


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_exif_orientation_is_applied(name: str, orientation: int) -> None:
    options = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 95, "subsampling": 0},
        "AVIF": {"quality": 95},
    }
    image = decode(encode(PHOTO, name, exif=exif(orientation), **options.get(name, {})), POLICY)
    expected = TURNED[orientation]
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels.astype(float) - expected).mean() < (
        3 if name in ("JPEG", "AVIF") else 1e-9
    )
    assert (image.width, image.height) == (181, 121)


def broken_exif_blocks() -> list[bytes]:
    good = exif(6)
    return [
        b"Exif\0\0",
        good[:9],
        good[:20],
        b"Exif\0\0XX" + good[8:],
        exif(0),
        exif(9),
        exif(65535),
    ]


@pytest.mark.parametrize("block", broken_exif_blocks(), ids=repr)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_is_ignored(name: str, block: bytes) -> None:
    plain = decode(encode(PHOTO, name), POLICY)
    assert difference(decode(encode(PHOTO, name, exif=block), POLICY).pixels, plain.pixels) == 0


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_directory_that_claims_too_many_entries_keeps_its_orientation(name: str) -> None:
    block = bytearray(exif(6))
    order = "little" if block[6:8] == b"II" else "big"
    directory = 6 + int.from_bytes(block[10:14], order)
    block[directory : directory + 2] = (500).to_bytes(2, order)
    assert decode(encode(PHOTO, name, exif=bytes(block)), POLICY).pixels.shape == (181, 121, 3)


def test_the_first_of_two_exif_blocks_of_a_jpeg_counts() -> None:
    upright = encode(PHOTO, "JPEG", exif=exif(1))
    block = exif(6)
    second = b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block
    end = upright.index(b"\xff\xdb")
    assert decode(upright[:end] + second + upright[end:], POLICY).pixels.shape == (121, 181, 3)


@pytest.mark.parametrize(("first", "shape"), [(6, (181, 121, 3)), (1, (121, 181, 3))])
def test_the_first_of_two_exif_blocks_of_a_webp_counts(
    first: int, shape: tuple[int, int, int]
) -> None:
    data = encode(PHOTO, "WEBP", lossless=True, exif=exif(first))
    second = riff_chunk(b"EXIF", exif(7 - first).removeprefix(b"Exif\0\0"))
    both = webp_with(data, second, behind=b"EXIF")
    assert both.count(b"EXIF") == 2
    assert decode(both, POLICY).pixels.shape == shape
