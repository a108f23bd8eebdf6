"""One decoding for several networks gives each of them what a decoding of its own would."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import transforms.decode.pool
from transforms.decode.image import DecodePolicy, decode
from transforms.decode.pool import DecodeAndResize, decode_all
from transforms.errors import ImageError
from transforms.preprocess import Resize

POLICY = DecodePolicy()
SIZES = [(224, 224), (96, 96), (32, 64), (300, 300)]
FUNCTIONS = [DecodeAndResize(POLICY, size, how) for size in SIZES for how in ("squash", "crop")]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def files(photos: Path) -> list[bytes]:
    """Make a large JPEG, a turned one, a PNG, damaged files, and one that is no image."""
    with Image.open(photos / "hubble_deep_field.jpg") as opened:
        image = opened.convert("RGB").resize((1600, 1100))
    exif = Image.Exif()
    exif[0x0112] = 6
    large = encoded(image, "JPEG")
    files = [large, encoded(image, "JPEG", exif=exif), encoded(image.resize((90, 70)), "PNG")]
    return [*files, large[: len(large) // 2], large[:40], b"", b"not an image"]


def attempt(function, data):
    try:
        return function(data)
    except ImageError as error:
        return error


def test_each_network_gets_its_own_picture_to_the_bit(files):
    shared = decode_all([(data, FUNCTIONS) for data in files], 2)
    for data, results in zip(files, shared, strict=True):
        for function, found in zip(FUNCTIONS, results, strict=True):
            alone = attempt(function, data)
            assert type(found) is type(alone)
            if isinstance(alone, ImageError):
                assert str(found) == str(alone)
                continue
            assert (found.pixels == alone.pixels).all()
            assert found.pixels.shape == (*function.size, 3)
            assert (found.format, found.width, found.height) == (
                alone.format, alone.width, alone.height,
            )  # fmt: skip
            assert found.phash == alone.phash


def test_an_image_is_decoded_once_for_each_scale(files, monkeypatch):
    decoded = []
    real = transforms.decode.pool.decode

    def count(data, policy, size):
        decoded.append(size)
        return real(data, policy, size)

    monkeypatch.setattr(transforms.decode.pool, "decode", count)
    [_] = decode_all([(files[0], FUNCTIONS)], 1)
    # 1600×1100: at 1/2 for 224, at 1/4 for 96, at 1/8 for 32×64, and whole for 300.
    assert len(decoded) == 4
    decoded.clear()
    [_] = decode_all([(files[2], FUNCTIONS)], 1)
    assert len(decoded) == 1


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_picture_that_was_decoded_smaller_is_cropped_where_it_is_cropped_whole(
    photos, orientation
):
    """At 1/4 its width is odd: the middle in whole pixels there is two pixels beside the file's."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(photos / "chelsea.png") as opened:
        data = encoded(opened.resize((4028, 3024)), "JPEG", quality=95, exif=exif)
    smaller, whole = decode(data, POLICY, (224, 224)), decode(data, POLICY)
    assert sorted(smaller.pixels.shape[:2]) == [756, 1007]
    assert smaller.whole == whole.pixels.shape[:2]
    ours = DecodeAndResize(POLICY, (224, 224), "crop")(data).pixels.astype(int)
    # 0.15 levels; 1.01 beside the middle.
    assert np.abs(ours - Resize(224, 224, "crop")(whole.pixels)).mean() < 0.5
