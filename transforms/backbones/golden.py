"""The golden images: made by formulas, so that nothing has to be shipped, and unlike each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def golden_images(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Four images uint8 [4, H, W, 3]: gradients, colored noise, hard edges, rings.

    The same in every process.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    down, across = y / max(height - 1, 1), x / max(width - 1, 1)
    gradients = np.stack([across, down, 1 - (across + down) / 2], axis=-1)
    noise = np.random.RandomState(0).rand(height, width, 3)  # its stream is frozen for good
    squares = (x // max(width // 7, 1) + y // max(height // 5, 1)) % 2
    edges = np.stack([squares, 1 - squares, (across > down).astype(np.float64)], axis=-1)
    radius = np.hypot(down - 0.5, across - 0.4)
    rings = np.stack([0.5 + 0.5 * np.cos(radius * f) for f in (20.0, 35.0, 50.0)], axis=-1)
    images: npt.NDArray[np.uint8] = np.rint(
        np.stack([gradients, noise, edges, rings]) * 255
    ).astype(np.uint8)
    return images
