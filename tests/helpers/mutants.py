"""Damage real image files of every supported format at random.

Run as ``python -m tests.helpers.mutants SEED FIRST COUNT PLACE``.

Decodes and resizes the mutants FIRST to FIRST + COUNT one by one, as a worker does. SEED and its
number define each mutant. The file PLACE holds the number of the current one, in case the process
dies.
"""

from __future__ import annotations

import json
import mmap
import random
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from tests.helpers.encoded import encode, tiff
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize
from transforms.errors import ImageError

DECODE = DecodeAndResize(
    DecodePolicy(max_bytes=1 << 20, max_pixels=4_000_000), (224, 224), "squash"
)
_NUMBERS = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\0\0\xff\xff",
    b"\xff\xff\0\0",
    bytes(4),
)


def _photo(name: str, box: tuple[int, int, int, int]) -> Image.Image:
    spec = find_spec("skimage.data")
    assert spec
    assert spec.submodule_search_locations
    with Image.open(next(Path(spec.submodule_search_locations[0]).glob(f"{name}.*"))) as image:
        return image.convert("RGB").crop(box)


def _run_length_encoded() -> bytes:
    """Make a BMP like those of old Windows programs; Pillow writes none."""
    image = _photo("coffee", (100, 100, 180, 150)).quantize(16)
    rows = np.asarray(image)[::-1]
    body = (
        b"".join(b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in rows) + b"\0\1"
    )
    palette = b"".join(
        bytes((*image.getpalette()[3 * i : 3 * i + 3][::-1], 0)) for i in range(16)
    ) + bytes(4 * 240)
    info = struct.pack(
        "<IiiHHIIiiII", 40, image.width, image.height, 1, 8, 1, len(body), 0, 0, 256, 0
    )
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body


@cache
def originals() -> dict[str, bytes]:
    """Make small real photos, with the metadata that cameras and editors write."""
    photo, other = _photo("astronaut", (150, 0, 290, 90)), _photo("chelsea", (100, 50, 240, 140))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    kept = {
        "exif": exif.tobytes(),
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(),
    }
    alpha = photo.copy()
    alpha.putalpha(other.convert("L"))
    frames = {"save_all": True, "append_images": [other]}
    pixels = np.asarray(photo)
    return {
        "jpg": encode(photo, "JPEG", **kept),
        "progressive.jpg": encode(photo, "JPEG", progressive=True, subsampling=0),
        "cmyk.jpg": encode(photo.convert("CMYK"), "JPEG"),
        "gray.jpg": encode(photo.convert("L"), "JPEG", restart_marker_rows=1),
        "png": encode(photo, "PNG", **kept),
        "alpha.png": encode(alpha, "PNG"),
        "palette.png": encode(photo.quantize(64), "PNG", transparency=3),
        "16.png": encode(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        "frames.png": encode(photo, "PNG", **frames),
        "gif": encode(photo, "GIF", comment=b"a comment"),
        "frames.gif": encode(photo, "GIF", **frames),
        "bmp": encode(photo, "BMP"),
        "rle.bmp": _run_length_encoded(),
        "tif": encode(photo, "TIFF", **kept),
        "lzw.tif": encode(photo, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encode(photo, "TIFF", compression="jpeg"),
        "tiles.tif": tiff(pixels, photometric="rgb", tile=(16, 16), compression="zlib"),
        "big.tif": tiff(pixels, photometric="rgb", bigtiff=True, rowsperstrip=4),
        "webp": encode(photo, "WEBP", **kept),
        "lossless.webp": encode(alpha, "WEBP", lossless=True),
        "frames.webp": encode(photo, "WEBP", **frames),
        "avif": encode(photo, "AVIF", **kept),
        "alpha.avif": encode(alpha, "AVIF", speed=10),
    }


def mutant(seed: int, number: int) -> tuple[str, bytes]:
    """Return the kind of file, and its bytes after one to eight damages.

    Half of the damages are in the first 600 bytes. Half of the damaged PNGs get right check sums
    again: a wrong one would stop the decoder early.
    """
    chance = random.Random(f"{seed}:{number}")
    files = originals()
    name = list(files)[number % len(files)]
    data = bytearray(files[name])
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        _damage(data, chance, files)
    return name, _with_right_sums(data) if name.endswith(
        "png"
    ) and chance.random() < 0.5 else bytes(data)


def _with_right_sums(png: bytearray) -> bytes:
    at = 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4])
        png[end : end + 4] = (
            struct.pack(">I", zlib.crc32(png[at + 4 : end])) if end + 4 <= len(png) else png[end:]
        )
        at = end + 4
    return bytes(png)


def _damage(data: bytearray, chance: random.Random, files: dict[str, bytes]) -> None:
    at = chance.randrange(max(1, min(len(data), 600) if chance.random() < 0.5 else len(data)))
    length = min(chance.choice((1, 4, 16, 200)), len(data) - at)
    kind = chance.randrange(20)
    if kind < 5 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind < 9:
        data[at : at + 1] = chance.randbytes(1)
    elif kind < 12:
        number = chance.choice(_NUMBERS)
        data[at : at + len(number)] = number
    elif kind < 14:
        data[at : at + length] = chance.randbytes(length)
    elif kind < 16:
        del data[at : at + length]
    elif kind < 18:
        data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
    elif kind == 18:
        del data[at + chance.randrange(len(data) - at + 1) :]
    else:
        other = files[chance.choice(list(files))]
        start = chance.randrange(len(other))
        data[at : at + length] = other[start : start + length]


def main(seed: int, first: int, count: int, place: Path) -> None:
    """Print the outcomes of the mutants as JSON.

    Any outcome other than a vector or a failure ends the process.
    """
    ends: Counter[str] = Counter()
    slowest = (0.0, -1)
    originals()
    DECODE(originals()["jpg"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    place.write_bytes(bytes(8))
    with place.open("r+b") as file, mmap.mmap(file.fileno(), 8) as now:
        for number in range(first, first + count):
            now[:] = struct.pack("<q", number)
            name, data = mutant(seed, number)
            start = time.perf_counter()
            try:
                image = DECODE(data)
            except ImageError as error:
                if error.kind.transient or "\n" in error.message or len(error.message) > 400:
                    raise
                ends[error.kind.word] += 1
            else:
                assert image.pixels.dtype == np.uint8
                assert image.pixels.shape == (224, 224, 3)
                ends[f"picture {name.rsplit('.', 1)[-1]}"] += 1
            slowest = max(slowest, (time.perf_counter() - start, number))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"ends": ends, "slowest": slowest, "grown_mib": grown >> 10}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
