"""Handle TIFFs that Pillow opens and misreads, or could read but does not open."""

from __future__ import annotations

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from transforms.errors import FailureKind, ImageError

_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _PLANES, _DNG = (
    254,
    256,
    257,
    258,
    262,
    284,
    50706,
)
_SUBSAMPLING, _YCBCR = 530, 6
_DEEP_PLANES = {("RGB", (16, 16, 16)), ("RGBA", (16, 16, 16, 16))}

# Add grays that Pillow's table of kinds lacks: those of big-endian files where zero is white, and
# most of 12 bits.
for _order, _deep in ((b"II", "I;16"), (b"MM", "I;16B")):
    OPEN_INFO.setdefault((_order, 0, (1,), 1, (16,), ()), (_deep, _deep))
    for _photometric in (0, 1):
        OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))


def stored_size(image: TiffImageFile) -> tuple[int, int]:
    """Return width and height as stored; ``image.size`` has the orientation applied."""
    return image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]


def prepare(image: TiffImageFile) -> None:
    """Correct how Pillow reads an image that is not loaded yet.

    Raises:
        ImageError: ``unsupported`` for a kind that Pillow would misread.
    """
    tags = image.tag_v2
    if tags.get(_NEW_SUBFILE_TYPE, 0) & 1 or _DNG in tags:
        raise _unread("a camera's raw file, whose first picture is a thumbnail,")
    if tags.get(_PLANES) == 2 and image.mode == "LAB":
        # Pillow ignores that two of the planes are signed.
        raise _unread("a TIFF of Lab planes")
    if image.use_load_libtiff:
        return
    if tags.get(_PLANES) == 2 and max(tags.get(_BITS, (1,))) > 8:
        _tell_deep_planes(image)
    elif tags.get(_PHOTOMETRIC) == _YCBCR:
        _tell_plain_ycbcr(image)


def gray_of_16_bits(image: TiffImageFile) -> Image.Image:
    """Widen 12-bit grays of a loaded image so that white stays white, and invert if zero is white.

    Pillow itself inverts grays of 8 bits. Other images are returned unchanged.
    """
    narrow, inverted = image.tag_v2.get(_BITS) == (12,), image.tag_v2.get(_PHOTOMETRIC) == 0
    if not image.mode.startswith("I;16") or not (narrow or inverted):
        return image
    values: np.ndarray = np.asarray(image).astype(np.uint16)
    if narrow:
        values = values << 4 | values >> 8
    return Image.fromarray(~values if inverted else values)


def _tell_deep_planes(image: TiffImageFile) -> None:
    """Tell Pillow that the planes have 16-bit values: it takes them for 8-bit ones."""
    if (image.mode, image.tag_v2.get(_BITS)) not in _DEEP_PLANES:
        raise _unread("an uncompressed TIFF of 16-bit planes that are not RGB")
    order = "L" if image.tag_v2.prefix == b"II" else "B"
    for number, tile in enumerate(image.tile):
        args = tuple(tile.args or ("",))
        image.tile[number] = tile._replace(args=(f"{args[0]};16{order}", *args[1:]))


def _tell_plain_ycbcr(image: TiffImageFile) -> None:
    """Tell Pillow that a pixel has three values of YCbCr: it takes them for four of RGB.

    The values are those of JFIF, as in Pillow's own conversion. Subsampled values come in blocks
    that Pillow cannot read.
    """
    tags = image.tag_v2
    if (
        tags.get(_SUBSAMPLING, (2, 2)) != (1, 1)
        or tags.get(_BITS) != (8, 8, 8)
        or tags.get(_PLANES, 1) != 1
    ):
        raise _unread("an uncompressed TIFF of subsampled or planar YCbCr")
    image._mode = "YCbCr"
    image.tile = [tile._replace(args=("YCbCr", *(tile.args or ())[1:])) for tile in image.tile]


def _unread(seen: str) -> ImageError:
    return ImageError(
        "decode", FailureKind.UNSUPPORTED, f"{seen} is not read; convert it to JPEG or PNG"
    )
