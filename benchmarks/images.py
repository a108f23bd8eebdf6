"""Make benchmark images: distinct JPEGs, cropped and encoded again from scikit-image's photos."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = (
    "coffee.png",
    "astronaut.png",
    "rocket.jpg",
    "chelsea.png",
    "motorcycle_left.png",
    "retina.jpg",
)
# Width and height: the usual ones of ImageNet, 4.3 megapixels, and 12 of a phone.
SIZES = {"small": (500, 375), "large": (2560, 1680), "huge": (4032, 3024)}
QUALITY = 85


def make_images(folder: Path, count: int, size: str) -> list[Path]:
    """Fill a folder up to ``count`` different JPEGs of a size; keep those that exist already."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    missing = [path for path in paths if not path.exists()]
    photos = [load_photo(name) for name in PHOTOS] if missing else []
    for path in missing:
        path.write_bytes(crop(photos, int(path.stem), SIZES[size]))
    return paths


def load_photo(name: str) -> Image.Image:
    """Load one of scikit-image's sample photos, as RGB."""
    spec = find_spec("skimage.data")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("benchmarks need scikit-image for its photos: pip install '.[bench]'")
    return Image.open(Path(next(iter(spec.submodule_search_locations))) / name).convert("RGB")


def crop(photos: list[Image.Image], number: int, size: tuple[int, int]) -> bytes:
    """Make the JPEG of a number: a window of half to all of a photo, scaled.

    The picture of a number is the same in every run.

    Args:
        photos: The photos to crop.
        number: Chooses the photo and the window.
        size: Width and height in pixels.
    """
    random = np.random.default_rng(number)
    photo = photos[number % len(photos)]
    share = float(random.uniform(0.5, 1.0))
    width, height = (side * share for side in photo.size)
    left, top = (float(random.uniform(0, side * (1 - share))) for side in photo.size)
    picture = photo.resize(
        size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)
    )
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=QUALITY)
    return encoded.getvalue()
