"""Colors end in sRGB: embedded profiles, CMYK, and pixels without an agreed white."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageCms

from tests.helpers.encoded import P3, SRGB, encode, profile, tiff
from transforms.decode import color
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind, ImageError

POLICY = DecodePolicy()
SAMPLES = Path(skimage.__file__).parent / "data"
PHOTO = Image.open(SAMPLES / "coffee.png").convert("RGB").resize((180, 120))
PIXELS = np.asarray(PHOTO)
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def converted(
    pixels: np.ndarray, columns: list[tuple[float, float, float]], gamma: float
) -> np.ndarray:
    """The same by the definitions: linear light, matrix to XYZ, matrix to sRGB, its transfer curve."""
    linear = (pixels / 255) ** gamma @ np.array(columns) @ np.linalg.inv(np.array(SRGB))
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_profile_is_converted_to_srgb(name: str) -> None:
    data = encode(PHOTO, name, icc_profile=profile(P3, 2.2), **LOSSLESS[name])
    pixels = decode(data, POLICY).pixels.astype(float)
    expected = converted(PIXELS, P3, 2.2)
    assert np.abs(pixels - expected).mean() < 0.5
    assert np.abs(PIXELS - expected).mean() > 2  # it matters


@pytest.mark.parametrize("target", [None, (40, 60)])
def test_a_jpegs_profile_is_converted_on_the_fast_path(target: tuple[int, int] | None) -> None:
    plain = decode(encode(PHOTO, "JPEG", quality=95), POLICY, target).pixels
    pixels = decode(
        encode(PHOTO, "JPEG", quality=95, icc_profile=profile(P3, 2.2)), POLICY, target
    ).pixels
    assert np.abs(pixels - converted(plain, P3, 2.2)).mean() < 0.5


def test_a_long_jpeg_profile_comes_in_chunks() -> None:
    # Three APP2 segments; trailing bytes belong to no tag
    long = profile(P3, 2.2) + bytes(150_000)
    data = encode(PHOTO, "JPEG", quality=95, icc_profile=long)
    assert data.count(b"ICC_PROFILE\0") == 3
    whole = decode(data, POLICY).pixels
    assert (
        whole
        == decode(encode(PHOTO, "JPEG", quality=95, icc_profile=profile(P3, 2.2)), POLICY).pixels
    ).all()
    lost = data.replace(b"ICC_PROFILE\0\x02", b"XCC_PROFILE\0\x02")
    assert (
        decode(lost, POLICY).pixels == decode(encode(PHOTO, "JPEG", quality=95), POLICY).pixels
    ).all()


def test_alpha_survives_the_conversion() -> None:
    image = PHOTO.convert("RGBA")
    image.putalpha(128)
    pixels = decode(encode(image, "PNG", icc_profile=profile(P3, 2.2)), POLICY).pixels
    expected = converted(PIXELS, P3, 2.2) * (128 / 255) + 255 * (127 / 255)
    assert np.abs(pixels - expected).mean() < 0.6


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_a_gray_profile_is_converted(name: str) -> None:
    gray = PHOTO.convert("L")
    options = {"quality": 100} if name == "JPEG" else {}
    pixels = decode(encode(gray, name, icc_profile=profile(None, 1.25), **options), POLICY).pixels
    plain = decode(encode(gray, name, **options), POLICY).pixels
    linear = (plain / 255) ** 1.25
    expected = 255 * np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    assert np.abs(pixels - expected).max() <= 2
    assert np.abs(plain - expected).mean() > 20


def test_a_gray_profile_is_converted_under_alpha_too() -> None:
    gray = PHOTO.convert("LA")
    icc = profile(None, 1.25)
    opaque = decode(encode(PHOTO.convert("L"), "PNG", icc_profile=icc), POLICY).pixels
    assert (decode(encode(gray, "PNG", icc_profile=icc), POLICY).pixels == opaque).all()


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_an_srgb_profile_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    color._built_transform.cache_clear()
    decode(encode(PHOTO, name, icc_profile=srgb), POLICY)  # looks the profile up once

    def too_slow(*_: object) -> None:
        raise AssertionError("converted from sRGB to sRGB")

    monkeypatch.setattr(ImageCms.ImageCmsTransform, "apply", too_slow)
    pixels = decode(encode(PHOTO, name, icc_profile=srgb), POLICY).pixels
    assert (pixels == decode(encode(PHOTO, name), POLICY).pixels).all()


@pytest.mark.parametrize(
    "icc",
    [b"not a profile", profile(P3, 2.2)[:200], profile(None, 1.2), b"\0" * 3000],
    ids=["text", "cut", "a gray one", "zeros"],
)
@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_broken_or_unfitting_profile_is_ignored(name: str, icc: bytes) -> None:
    data = encode(PHOTO, name, icc_profile=icc)
    assert (decode(data, POLICY).pixels == decode(encode(PHOTO, name), POLICY).pixels).all()


@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
def test_cmyk_with_an_rgb_profile_is_read_without_it(name: str) -> None:
    options = {"quality": 100, "subsampling": 0} if name == "JPEG" else {}
    data = encode(PHOTO.convert("CMYK"), name, icc_profile=profile(P3, 2.2), **options)
    assert np.abs(decode(data, POLICY).pixels.astype(float) - PIXELS).mean() < 2


def test_a_real_photo_in_adobe_rgb() -> None:
    data = (SAMPLES / "rocket.jpg").read_bytes()
    image = Image.open(io.BytesIO(data))
    source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    assert "Adobe RGB" in ImageCms.getProfileDescription(source)
    expected = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    assert np.abs(decode(data, POLICY).pixels - np.asarray(expected).astype(float)).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int32, np.int16])
def test_values_without_an_agreed_white_are_refused(dtype: type) -> None:
    with pytest.raises(ImageError, match="have no agreed white; save as 8 or 16 bit") as caught:
        decode(tiff(np.asarray(PHOTO.convert("L")).astype(dtype), photometric="minisblack"), POLICY)
    assert caught.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.parametrize(
    "options", [{}, {"rowsperstrip": 7}, {"tile": (32, 32)}], ids=["plain", "strips", "tiles"]
)
def test_uncompressed_ycbcr_is_read(options: dict[str, object]) -> None:
    ycbcr = PHOTO.convert("YCbCr")
    data = tiff(np.asarray(ycbcr), photometric="ycbcr", subsampling=(1, 1), **options)
    assert (decode(data, POLICY).pixels == np.asarray(ycbcr.convert("RGB"))).all()


def test_uncompressed_subsampled_ycbcr_is_refused() -> None:
    data = tiff(np.asarray(PHOTO.convert("YCbCr")), photometric="ycbcr", subsampling=(1, 1))
    tag = struct.pack("<HHIHH", 530, 3, 2, 1, 1)
    assert tag in data
    with pytest.raises(ImageError, match="subsampled or planar YCbCr is not read") as caught:
        decode(data.replace(tag, struct.pack("<HHIHH", 530, 3, 2, 2, 2)), POLICY)
    assert caught.value.kind is FailureKind.UNSUPPORTED
