"""Make crops of the sample photos, in a folder for each photo: a task that a head can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_crops(folder: Path, photos: Path, names: str, count: int, size: int) -> Path:
    """Make square JPEGs.

    Args:
        folder: Gets a folder for each name.
        photos: The sample photos.
        names: Of photos, separated by spaces.
        count: Crops of each photo.
        size: Their height and width, pixels.
    """
    random = np.random.default_rng(0)
    for name in names.split():
        with Image.open(next(photos.glob(f"{name}.*"))) as opened:
            photo = opened.convert("RGB")
        (folder / name).mkdir(parents=True)
        for number in range(count):
            side = int(random.integers(60, min(photo.size) // 2))
            left = int(random.integers(0, photo.width - side))
            top = int(random.integers(0, photo.height - side))
            crop = photo.crop((left, top, left + side, top + side)).resize((size, size))
            crop.save(folder / name / f"{number:03d}.jpg", quality=90)
    return folder
