"""Run pixels through the engine: a bad image fails alone, a full device gets smaller batches."""

from __future__ import annotations

import logging

import numpy as np

from transforms.engines.base import Engine, Images, Outputs
from transforms.errors import FailureKind, ImageError, first_line

_LOG = logging.getLogger(__name__)
_OUT_OF_MEMORY = ("ResourceExhaustedError", "MemoryError", "OutOfMemoryError")


def embed(engine: Engine, images: Images) -> tuple[Outputs, dict[int, ImageError]]:
    """Run images through the engine.

    Args:
        engine: A loaded engine.
        images: N times uint8 [H, W, 3].

    Returns:
        The outputs of all N images, and the errors by position of those that failed. The outputs of
        failed images are meaningless. An image fails if its vector has a value that is not finite,
        or if the engine fails on it alone.
    """
    outputs, failures = _run(engine, images)
    for position in np.flatnonzero(~np.isfinite(outputs.features).all(axis=1)).tolist():
        message = "the network gave a vector with values that are not finite"
        failures.setdefault(position, ImageError("embed", FailureKind.NON_FINITE, message))
    return outputs, failures


def _run(engine: Engine, images: Images) -> tuple[Outputs, dict[int, ImageError]]:
    try:
        return engine.run(images), {}
    except Exception as error:
        if type(error).__name__ in _OUT_OF_MEMORY and engine.batch_size > 1:
            # Keep the smaller size for all later batches of this process.
            engine.batch_size //= 2
            _LOG.warning(
                "out of memory on the device: batches of %d from now on", engine.batch_size
            )
            return _run(engine, images)
        if len(images) == 1:
            message = f"{type(error).__name__}: {first_line(error)}"[:300]
            return _nothing(engine), {0: ImageError("embed", FailureKind.ENGINE_ERROR, message)}
    return _halves(engine, images)


def _halves(engine: Engine, images: Images) -> tuple[Outputs, dict[int, ImageError]]:
    """Find the images on which the engine fails by halving: log2(N) more runs for one of them."""
    middle = len(images) // 2
    left, left_failures = _run(engine, images[:middle])
    right, right_failures = _run(engine, images[middle:])
    outputs = Outputs(
        np.concatenate([left.features, right.features]),
        np.concatenate([left.scores, right.scores]),
        np.concatenate([left.indices, right.indices]),
    )
    return outputs, left_failures | {middle + i: error for i, error in right_failures.items()}


def _nothing(engine: Engine) -> Outputs:
    model = engine.model
    return Outputs(
        np.full((1, model.dimension), np.nan, np.float32),
        np.zeros((1, model.top_k), np.float32),
        np.zeros((1, model.top_k), np.int32),
    )
