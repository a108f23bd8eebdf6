"""Batches of an epoch: shuffled, flipped, cropped and recoloured by tf.data.

Everything random is decided by the seed and the number of the step, so that a training that was
killed goes on with the very images that it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.preprocess import ValueRange

# A crop keeps at least this share of each side.
_MIN_SIDE = 0.8
# Factors of brightness, contrast and saturation lie within 1 ± this.
_COLOR = 0.2
_GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Images with their targets: N rows, of which only some are used."""

    pixels: npt.NDArray[np.uint8]  # [N, H, W, 3]
    targets: npt.NDArray[np.float32]  # [N, classes], 0 or 1
    weights: npt.NDArray[np.float32]  # [N], of each in the loss
    mode: str  # of transforms.preprocess.ValueRange
    batch_size: int


def batches(examples: Examples, places: npt.NDArray[np.int64], seed: int | None = None) -> Any:
    """Return a ``tf.data.Dataset`` of one pass: pixels, targets and weights of each batch.

    Args:
        examples: The images.
        places: Which of them.
        seed: Of this epoch: they are shuffled and augmented. None gives them as they are, in order.
    """
    import tensorflow as tf

    _, height, width, _ = examples.pixels.shape
    size, classes = examples.batch_size, examples.targets.shape[1]
    if seed is not None:
        places = np.random.default_rng(seed).permutation(places)

    def load(step: np.int64) -> tuple[Any, Any, Any]:
        chosen = places[step * size : (step + 1) * size]
        return examples.pixels[chosen], examples.targets[chosen], examples.weights[chosen]

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def batch(step: Any) -> tuple[Any, Any, Any]:
        pixels, targets, weights = tf.numpy_function(
            load, [step], (tf.uint8, tf.float32, tf.float32)
        )
        pixels = tf.cast(tf.ensure_shape(pixels, (None, height, width, 3)), tf.float32)
        if seed is not None:
            pixels = augment(pixels, seed, step)
        targets = tf.ensure_shape(targets, (None, classes))
        return ValueRange(examples.mode)(pixels), targets, tf.ensure_shape(weights, (None,))

    steps = -(-len(places) // size)
    return tf.data.Dataset.range(steps).map(batch).prefetch(2)


def augment(pixels: Any, seed: int, step: Any) -> Any:
    """Flip, crop and recolour each image of a batch by itself: float32 [N, H, W, 3], 0 to 255."""
    import tensorflow as tf

    shape = tf.shape(pixels)
    count, size = shape[0], shape[1:3]

    def uniform(number: int, low: float, high: float) -> Any:
        seeds = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64) * 8 + number])
        return tf.random.stateless_uniform([count], seeds, low, high)

    height, width = uniform(0, _MIN_SIDE, 1.0), uniform(1, _MIN_SIDE, 1.0)
    top, left = uniform(2, 0.0, 1.0) * (1 - height), uniform(3, 0.0, 1.0) * (1 - width)
    flipped = uniform(4, 0.0, 1.0) < 0.5
    # A box whose left edge lies right of its right edge is mirrored by crop_and_resize.
    first = tf.where(flipped, left + width, left)
    last = tf.where(flipped, left, left + width)
    boxes = tf.stack([top, first, top + height, last], axis=1)
    pixels = tf.image.crop_and_resize(pixels, boxes, tf.range(count), size)
    brightness, contrast, saturation = (
        tf.reshape(uniform(number, 1 - _COLOR, 1 + _COLOR), (-1, 1, 1, 1)) for number in (5, 6, 7)
    )
    pixels *= brightness
    mean = tf.reduce_mean(pixels, axis=(1, 2, 3), keepdims=True)
    pixels = mean + (pixels - mean) * contrast
    gray = tf.reduce_sum(pixels * tf.constant(_GRAY), axis=3, keepdims=True)
    return tf.clip_by_value(gray + (pixels - gray) * saturation, 0.0, 255.0)
