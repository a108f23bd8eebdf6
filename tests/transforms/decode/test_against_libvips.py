"""Our pixels against those of libvips, another reader, for files of every sort; ``-s`` prints the differences.

A difference that is not listed in ``KNOWN``, with its size and reason, fails; so does a listed one
that is gone.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pyvips

from tests.helpers.vips_cases import cases
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import ImageError

# Levels at any pixel: two roundings of a color, its profile and its alpha
MOST = 2

# What libvips' wheel cannot read, and the same picture in a file that it can
STAND_INS = (
    (r"bmp (.*)", r"png of bmp \1"),
    (r"tiff (?:lzma|zstd) (.*)", r"tiff raw \1"),
)
REFUSED, OURS = "only libvips can read it", "only we can read it"
KNOWN: tuple[
    tuple[str, int | str, str], ...
    # The names, at most how many levels or who reads it, and why
] = (
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
    """The first frame upright, in sRGB, on white; None if libvips refuses the file."""
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
    """The most levels that a pixel is apart, or in words what keeps the two from being compared."""
    if ours is None or theirs is None:
        return "nobody can read it" if ours is theirs else REFUSED if ours is None else OURS
    if ours.shape != theirs.shape:
        return f"{ours.shape} for {theirs.shape}"
    return int(np.abs(ours.astype(int) - theirs).max())


def same_picture(name: str, files: dict[str, bytes]) -> bytes:
    """The file, or the one that stands in for it, which libvips can read."""
    for pattern, other in STAND_INS:
        if found := re.fullmatch(pattern, name):
            return files[found.expand(other)]
    return files[name]


def reason(name: str, apart: int | str) -> str | None:
    """Why a known file differs so; None if it is not known to, or not so."""
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
        name: apart for name, apart in found.items() if isinstance(apart, str) or apart > MOST
    }
    reasons = {name: reason(name, apart) for name, apart in differ.items()}
    print(f"\n{len(files)} files, {len(differ)} of them not the same within {MOST} levels:")
    for why, count in Counter(why or "NEW" for why in reasons.values()).most_common():
        print(f"{count:4} {why}")
    assert {name: apart for name, apart in differ.items() if not reasons[name]} == {}
    for pattern, _, why in KNOWN:
        matching = [name for name in files if re.fullmatch(pattern, name)]
        assert matching, pattern
        assert [name for name in matching if name not in differ] == [], f"no longer true: {why}"


if __name__ == "__main__":
    test_our_pixels_are_those_of_libvips()
