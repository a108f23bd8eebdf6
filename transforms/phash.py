"""Hash a picture to 64 bits that hardly change when it is encoded again or scaled.

The hash is the well-known pHash with the choices of ``imagehash.phash``; docs/schema.md defines it.
"""

from __future__ import annotations

import numpy as np

from transforms.preprocess import Resize

# Pixels a side of the picture whose frequencies are compared.
SIDE = 32
_FREQUENCIES = 8
_SHRINK = Resize(SIDE, SIDE)
# Luma of ITU-R BT.601 in thousandths. All factors are whole numbers, so that float64 computes the
# hash without rounding, and each machine gets the same bits.
_LUMA = (299, 587, 114)


def _cosines() -> np.ndarray:
    """Return the rows of the DCT-II of length ``SIDE`` for the low frequencies, scaled by 2048."""
    angles = np.outer(np.arange(_FREQUENCIES), 2 * np.arange(SIDE) + 1) * (np.pi / (2 * SIDE))
    cosines: np.ndarray = np.rint(2048 * np.cos(angles))
    return cosines


_VERTICAL = _cosines()
# Red, green and blue of a row lie side by side: this turns them gray and takes their frequencies.
_HORIZONTAL = np.kron(_VERTICAL, _LUMA).T.copy()


def phash(pixels: np.ndarray) -> int:
    """Return the perceptual hash of a picture.

    Few bits differ between the hashes of similar pictures; docs/schema.md says how to count them.

    Args:
        pixels: The whole picture, upright, uint8 [H, W, 3] in sRGB. Any size and aspect ratio.

    Returns:
        64 bits as a signed integer, -2**63 to 2**63 - 1.

    Raises:
        ValueError: For pixels that are not uint8 [H, W, 3].
    """
    small = _SHRINK(pixels).reshape(SIDE, SIDE * 3).astype(np.float64)
    # On matrices this small, dot takes a quarter less than the operator @.
    frequencies = _VERTICAL.dot(small.dot(_HORIZONTAL))
    middle = frequencies.size // 2
    ordered = np.sort(frequencies, axis=None)
    # Twice the median, which lies between the two middle values.
    bits = np.packbits(2 * frequencies > ordered[middle - 1] + ordered[middle])
    return int.from_bytes(bits.tobytes(), "big", signed=True)
