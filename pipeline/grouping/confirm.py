"""Confirm candidates by their perceptual hashes."""

from __future__ import annotations

import numpy as np

# Bits of 64 that may differ between two hashes of the same picture.
MAX_BITS = 10
# To mirror a picture changes the sign of its odd horizontal frequencies. The median, which a hash
# compares them with, is near 0: so these bits turn around, every second one in each row of 8.
_MIRRORED = np.uint64(0x5555_5555_5555_5555)


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the bits that differ between hashes, of the picture or of its mirror image.

    Args:
        a: Perceptual hashes (``transforms.phash``), int64 [n].
        b: Those that they are compared with, int64 [n].

    Returns:
        The smaller number of both, int32 [n].
    """
    differ = a.view(np.uint64) ^ b.view(np.uint64)
    bits: np.ndarray = np.minimum(np.bitwise_count(differ), np.bitwise_count(differ ^ _MIRRORED))
    return bits.astype(np.int32)
