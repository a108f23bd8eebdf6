"""The limits of an image's pixels and bytes, and whose they are."""

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from tests.helpers.encoded import difference, encode
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind, ImageError

PHOTO = (
    Image.open(Path(skimage.__file__).parent / "data/coffee.png").convert("RGB").resize((181, 121))
)
PIXELS = np.asarray(PHOTO)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_the_pixel_limit_is_checked_before_decoding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(PHOTO, name)
    assert decode(data, DecodePolicy(max_pixels=181 * 121)).width == 181

    def too_late(*_: object, **__: object) -> None:
        raise AssertionError("decoded before the limit was checked")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", too_late)
    monkeypatch.setattr("simplejpeg.decode_jpeg", too_late)
    with pytest.raises(
        ImageError, match=r"^181x121 is 21901 pixels; at most 21900 are read$"
    ) as caught:
        decode(data, DecodePolicy(max_pixels=21900))
    assert caught.value.kind is FailureKind.TOO_MANY_PIXELS
    assert caught.value.stage == "decode"


def test_pillows_own_limit_stays_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # of the file's 21901
    assert difference(decode(encode(PHOTO, "PNG"), DecodePolicy()).pixels, PIXELS) == 0
    assert Image.MAX_IMAGE_PIXELS == 5000


def test_the_byte_limit_and_the_empty_file() -> None:
    data = encode(PHOTO, "PNG")
    decode(data, DecodePolicy(max_bytes=len(data)))
    with pytest.raises(
        ImageError, match=f"^{len(data)} bytes; at most {len(data) - 1} are read$"
    ) as caught:
        decode(data, DecodePolicy(max_bytes=len(data) - 1))
    assert caught.value.kind is FailureKind.TOO_LARGE
    with pytest.raises(ImageError, match=r"^0 bytes$") as caught:
        decode(b"", DecodePolicy())
    assert caught.value.kind is FailureKind.EMPTY
