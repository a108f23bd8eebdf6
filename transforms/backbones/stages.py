"""Add what follows a network inside its export: vectors of length 1, and a trained head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from transforms.backbones.network import Images, Network, Rows, run

# The minimum of a squared length: a zero vector stays zero.
_EPSILON = 1e-12


def with_unit_vectors(network: Network) -> Network:
    """Return the network with each vector divided by its length."""

    def forward(pixels: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        vectors, scores = network.forward(pixels)
        return tf.math.l2_normalize(vectors, axis=1, epsilon=_EPSILON), scores

    def reference(images: Images) -> Rows:
        vectors, scores = network.reference(images)
        squares = np.sum(np.square(vectors), axis=1, keepdims=True)
        return vectors / np.sqrt(np.maximum(squares, _EPSILON)), scores

    return replace(network, forward=forward, reference=reference)


def with_head(network: Network, head: Any, classes: int) -> Network:
    """Return the network with the scores of a head, which takes the vectors as they are stored.

    Args:
        network: Its own scores, if any, are left out.
        head: A ``keras.Model``: float32 [N, D] → float32 [N, classes].
        classes: The number of labels.
    """

    def forward(pixels: Any) -> tuple[Any, Any]:
        vectors, _ = network.forward(pixels)
        return vectors, head(vectors, training=False)

    def reference(images: Images) -> Rows:
        vectors, _ = network.reference(images)
        return vectors, run(head, vectors)

    return replace(network, forward=forward, reference=reference, classes=classes)
