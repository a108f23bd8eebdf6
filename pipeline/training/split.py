"""Which images are for training, for validation and for the test: decided by their bytes."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test"]
# Shares of the images, of 1; the rest is for the test.
_TRAIN, _VALIDATION = 0.8, 0.1
_DIGITS = 8


def split_of(content_sha256: str) -> Split:
    """Return the side of an image: the same every night, and for all images with equal bytes.

    Args:
        content_sha256: Of the image's bytes, 64 hexadecimal digits.
    """
    place = int(content_sha256[:_DIGITS], 16) / 16**_DIGITS
    if place < _TRAIN:
        return "train"
    return "validation" if place < _TRAIN + _VALIDATION else "test"
