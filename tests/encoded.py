"""Files that the tests of decoding make."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from PIL import Image


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()
