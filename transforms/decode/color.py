"""From whatever a decoder gives (palette, alpha, CMYK, 16 bit, ICC profile) to 8-bit sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from transforms.errors import FailureKind, ImageError

_STRIP_PIXELS = 1 << 20
_WHITE = (255, 255, 255)
_LATTICE = (np.indices((18, 18, 18)) * 15).T.reshape(1, -1, 3).astype(np.uint8)
# printers' largest have 3 MB; 32 of them are kept
_MOST_PROFILE_BYTES = 4 << 20
_FLOAT_TAGS = (b"D2B0", b"D2B1", b"D2B2", b"D2B3")
# lcms2: what makes a transform safe to share between threads
_NO_CACHE = ImageCms.Flags.NOCACHE


def to_srgb(image: Image.Image, icc: bytes | None) -> np.ndarray:
    """Turn a loaded Pillow image of any mode into uint8 [H, W, 3] sRGB, alpha composed on white.

    It goes strip by strip, so that a picture is held at most twice, whatever is done to it.

    Raises:
        ImageError: ``unsupported`` for modes without a defined white (signed, 32-bit, floating
            point).
    """
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return np.asarray(_strip_to_srgb(image, icc))
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(_strip_to_srgb(image.crop((0, top, width, bottom)), icc))
    return pixels


def _strip_to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    base, alpha = _split(image)
    transform = _transform(icc, base.mode) if icc else None
    rgb = _in_mode(base, "RGB") if transform is None else transform.apply(base)
    if alpha is None:
        return rgb
    canvas = Image.new("RGB", rgb.size, _WHITE)
    canvas.paste(rgb, mask=alpha)
    return canvas


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # convert would copy


def keeps_colors(icc: bytes | None, mode: str) -> bool:
    """Whether pixels of ``mode`` need no conversion: no profile, one that is sRGB, or one that cannot be used."""
    return not icc or _transform(icc, mode) is None


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Give the colors in mode L, RGB, CMYK or LAB, and the opacity in mode L or None."""
    if image.mode.startswith("I;16"):
        return _gray_from_16_bit(image)
    if image.mode in ("I", "F"):
        message = f"pixels of Pillow mode {image.mode} have no agreed white; save as 8 or 16 bit gray or RGB"
        raise ImageError("decode", FailureKind.UNSUPPORTED, message)
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        image = _in_mode(image, "RGBA")
        return image.convert("RGB"), image.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _gray_from_16_bit(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Scaled, ``round(v × 255 / 65535)``, not cut: Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.uint32)
    gray = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return gray, None
    return gray, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None if the profile is broken or huge, does not fit the mode, or changes no color visibly."""
    return None if len(icc) > _MOST_PROFILE_BYTES else _built_transform(icc, mode)


@lru_cache(
    maxsize=32
    # A bucket's photos share few profiles; building costs 0.2 to 20 ms, a CMYK one takes 0.5 MB
)
def _built_transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(_without_float_tags(icc)))
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(profile, srgb, mode, "RGB", flags=_NO_CACHE)
    except (ImageCms.PyCMSError, OSError, ValueError):  # the picture is whole all the same
        return None
    return None if _is_identity(transform, mode) else transform


def _without_float_tags(icc: bytes) -> bytes:
    """Hide the tags of floating-point pipelines (ICC.1:2022, 9.2.48), which any profile has besides plain ones.

    They hold any number of steps that are all taken for each of 36,000 colors: 1 MB of them took
    90 s.
    """
    hidden = bytearray(icc)
    for entry in range(132, 132 + 12 * min(int.from_bytes(icc[128:132]), 100), 12):
        if hidden[entry : entry + 4] in _FLOAT_TAGS:
            hidden[entry : entry + 1] = b"x"
    return bytes(hidden)


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether no color of a lattice of 18³ moves by more than 1 level: the many flavours of sRGB."""
    if mode == "CMYK":
        return False
    lattice = Image.fromarray(_LATTICE).convert(mode)
    moved = np.asarray(transform.apply(lattice)).astype(int) - np.asarray(lattice.convert("RGB"))
    return int(np.abs(moved).max()) <= 1
