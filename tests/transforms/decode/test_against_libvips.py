"""Compare decoded pixels with those of libvips for many kinds of files.

``-s`` prints the differences. A difference fails unless ``KNOWN`` lists it with size and reason.
A listed difference that no longer exists fails too.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyvips

from tests.helpers.vips_cases import cases
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import ImageError

# Max difference of any pixel, in levels: a color is rounded twice, for its profile and its alpha.
MAX_LEVELS = 2

# Files that libvips' wheel cannot read, and readable files of the same picture.
STAND_INS = (
    (r"bmp (.*)", r"png of bmp \1"),
    (r"tiff (?:lzma|zstd) (.*)", r"tiff raw \1"),
)
REFUSED, OURS = "only libvips can read it", "only we can read it"
# Names of files, max difference in levels or who can read them, and the reason.
KNOWN: tuple[tuple[str, int | str, str], ...] = (
    (
        r"(jpeg (baseline|progressive)|tiff \w+) cmyk",
        64,
        "without a profile libvips takes CMYK for a press of its own choice, we for plain inverse "
        "colors",
    ),
    (
        r"avif 4:2:0",
        32,
        "libheif repeats the halved chroma, libavif interpolates it, as the browsers do",
    ),
    (
        r"avif, profile wide.*",
        6,
        "the two AV1 readers are 1 level apart, which the profile's steep curve makes 5",
    ),
    (
        r"png rgb 16, profile wide",
        8,
        "Pillow cuts 16-bit colors to 8 before the profile, which makes it 6 levels",
    ),
    (r"tiff (minisblack|miniswhite) [iuf]4 .*", REFUSED, "32 bits have no agreed black and white"),
    (
        r"tiff (minisblack|miniswhite) i2 .*",
        REFUSED,
        "16 bits with a sign have no agreed black and white",
    ),
    (r"tiff rgb f4 .*", REFUSED, "floating point has no agreed black and white"),
    (r"tiff gray alpha u2 .*", REFUSED, "Pillow does not read 16-bit gray with alpha in a TIFF"),
    (r"tiff vips lab.*", REFUSED, "Pillow does not read Lab of 16 bits or floating point"),
    (r"tiff lab", OURS, "libvips does not read the 8-bit Lab that Pillow writes"),
)


def by_libvips(data: bytes) -> np.ndarray | None:
    """Decode the first frame, upright, in sRGB, on white; None if libvips refuses the file."""
    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="error").autorot()
        if image.get_typeof("icc-profile-data"):
            image = image.icc_transform("srgb", embedded=True, intent="perceptual")
        image = image.colourspace("srgb")
        image = image.flatten(background=255) if image.hasalpha() else image
        pixels: np.ndarray = image.cast("uchar").numpy()
    except pyvips.Error:
        return None
    return pixels


def by_us(data: bytes) -> np.ndarray | None:
    try:
        return decode(data, DecodePolicy()).pixels
    except ImageError:
        return None


def difference(ours: np.ndarray | None, theirs: np.ndarray | None) -> int | str:
    """Return the max difference of a pixel in levels, or why the pixels cannot be compared."""
    if ours is None or theirs is None:
        return "nobody can read it" if ours is theirs else REFUSED if ours is None else OURS
    if ours.shape != theirs.shape:
        return f"{ours.shape} for {theirs.shape}"
    return int(np.abs(ours.astype(int) - theirs).max())


def same_picture(name: str, files: dict[str, bytes]) -> bytes:
    """Return the file, or its stand-in that libvips can read."""
    for pattern, other in STAND_INS:
        if found := re.fullmatch(pattern, name):
            return files[found.expand(other)]
    return files[name]


def reason(name: str, apart: int | str) -> str | None:
    """Return the reason of a known difference; None if it is unknown, or larger than known."""
    for pattern, known, why in KNOWN:
        if re.fullmatch(pattern, name):
            as_known = (
                apart <= known
                if isinstance(apart, int) and isinstance(known, int)
                else apart == known
            )
            return why if as_known else None
    return None


def test_our_pixels_are_those_of_libvips() -> None:
    files = cases()
    found = {
        name: difference(by_us(data), by_libvips(same_picture(name, files)))
        for name, data in files.items()
    }
    differ = {
        name: apart for name, apart in found.items() if isinstance(apart, str) or apart > MAX_LEVELS
    }
    reasons = {name: reason(name, apart) for name, apart in differ.items()}
    print(f"\n{len(files)} files, {len(differ)} of them not the same within {MAX_LEVELS} levels:")
    for why, count in Counter(why or "NEW" for why in reasons.values()).most_common():
        print(f"{count:4} {why}")
    assert {name: apart for name, apart in differ.items() if not reasons[name]} == {}
    for pattern, _, why in KNOWN:
        matching = [name for name in files if re.fullmatch(pattern, name)]
        assert matching, pattern
        assert [name for name in matching if name not in differ] == [], f"no longer true: {why}"


if __name__ == "__main__":
    test_our_pixels_are_those_of_libvips()
