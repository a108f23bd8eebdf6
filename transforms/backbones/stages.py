"""Add what follows a network inside its export: vectors of length 1, and a trained head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from transforms.backbones.network import Images, Network, Rows, run
from transforms.backbones.onnx_file import OnnxNetwork

# The minimum of a squared length: a zero vector stays zero.
_EPSILON = 1e-12


def with_unit_vectors(network: Network | OnnxNetwork) -> Network | OnnxNetwork:
    """Return the network with each vector divided by its length."""

    def reference(images: Images) -> Rows:
        vectors, scores = network.reference(images)
        squares = np.sum(np.square(vectors), axis=1, keepdims=True)
        return vectors / np.sqrt(np.maximum(squares, _EPSILON)), scores

    if isinstance(network, OnnxNetwork):
        return replace(network, reference=reference, unit=True)
    plain = network.forward

    def forward(pixels: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        vectors, scores = plain(pixels)
        return tf.math.l2_normalize(vectors, axis=1, epsilon=_EPSILON), scores

    return replace(network, forward=forward, reference=reference)


def with_head(network: Network | OnnxNetwork, head: Any, classes: int) -> Network | OnnxNetwork:
    """Return the network with the scores of a head, which takes the vectors as they are stored.

    Args:
        network: Its own scores, if any, are left out.
        head: A ``keras.Model``: float32 [N, D] → float32 [N, classes].
        classes: The number of labels.
    """

    def reference(images: Images) -> Rows:
        vectors, _ = network.reference(images)
        return vectors, run(head, vectors)

    if isinstance(network, OnnxNetwork):
        return replace(network, reference=reference, head=head)
    plain = network.forward

    def forward(pixels: Any) -> tuple[Any, Any]:
        vectors, _ = plain(pixels)
        return vectors, head(vectors, training=False)

    return replace(network, forward=forward, reference=reference, classes=classes)
