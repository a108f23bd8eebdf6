"""What the tests of decoding share: files that they make, and how they compare pixels and failures."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from transforms.decode import DecodePolicy, decode
from transforms.errors import ImageError


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def encode_jpeg(image: Image.Image, **options: object) -> bytes:
    return encode(image, "JPEG", **options)


def tiff(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def failure(data: bytes, policy: DecodePolicy | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, policy or DecodePolicy())
    assert caught.value.stage == "decode"
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    return caught.value


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(float) - expected).max())
