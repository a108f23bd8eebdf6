"""What the tests of backbones share: photos as pixels, seeded networks worth comparing, and exports run by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transforms.backbones import BACKBONES, BackboneConfig, Resolved, export, resolve
from transforms.backbones.named import builder
from transforms.backbones.network import import_keras, run, set_weights

PHOTOS = "astronaut chelsea coffee rocket hubble_deep_field retina motorcycle_left camera"


def pixels(folder: Path, size: int, names: str = PHOTOS) -> np.ndarray:
    """Photos squashed to uint8 [N, size, size, 3]."""
    opened = [Image.open(next(folder.glob(f"{name}.*"))) for name in names.split()]
    return np.stack([np.asarray(i.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)) for i in opened])


def calibrated(name: str, images: np.ndarray, classes: int = 1000) -> Any:
    """Keras' model with its top and seeded weights that tell photos apart.

    Weights as they are drawn make deep networks give nearly the same vector for everything, and then a wrong
    network would pass. So each BatchNormalization takes the statistics of real photos, and ConvNeXt's layer
    scales, drawn as 1e-6, become numbers of a trained network's size.
    """
    keras = import_keras()
    build, preprocess = builder(BACKBONES[name])
    keras.utils.set_random_seed(1)
    model = build(weights=None, include_top=True, input_shape=images.shape[1:], classes=classes)
    random = np.random.RandomState(2)
    norms = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            layer.momentum = 0.0
            norms.append(layer)
        elif kind == "Dropout":
            layer.rate = 0.0
        elif kind == "LayerScale":
            layer.gamma.assign(random.uniform(0.2, 0.6, layer.gamma.shape))
        elif kind == "Normalization" and layer.weights:
            layer.set_weights([np.array([0.48, 0.46, 0.41]), np.array([0.05, 0.06, 0.07]), 1])
            layer.finalize_state()
    model(preprocess(images.astype(np.float32)), training=True)
    for layer in norms:
        variance = layer.moving_variance.numpy()
        layer.moving_variance.assign(np.maximum(variance, 0.1 * variance.mean()))
    return model


def headless(name: str, model: Any, pooling: str = "avg") -> Any:
    """Keras' include_top=False with the weights of a model that has its top."""
    build, _ = builder(BACKBONES[name])
    shape = model.input_shape[1:]
    notop = build(weights=None, include_top=False, pooling=pooling, input_shape=shape)
    set_weights(notop, model.get_weights()[: len(notop.weights)])
    return notop


def keras_says(name: str, model: Any, images: np.ndarray) -> np.ndarray:
    """The model's output for pixels, through that family's own preprocess_input."""
    _, preprocess = builder(BACKBONES[name])
    return run(model, preprocess(images.astype(np.float32)))


def exported(folder: Path, **options: Any) -> tuple[Resolved, Callable[[np.ndarray], list[np.ndarray]]]:
    """Resolve, export, and run the graph: what was resolved, and a function of pixels."""
    resolved = resolve(BackboneConfig(**options))
    export(resolved, folder)
    return resolved, load_graph(folder)


def load_graph(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """``graph.pb`` without Keras: pixels → vectors, and scores and indices where there are labels."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((folder / "graph.pb").read_bytes())
    names = [name for name in ("features", "scores", "indices") if name in {node.name for node in graph.node}]
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    function = wrapped.prune("images:0", [wrapped.graph.get_tensor_by_name(f"{name}:0") for name in names])
    return lambda images: [tensor.numpy() for tensor in function(tf.constant(images))]


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal to 1e-4 of the largest number, on vectors that differ among themselves by far more."""
    scale = np.abs(theirs).max()
    spread = np.abs(theirs - theirs.mean(axis=0)).max() / scale
    assert spread > 0.02, f"these vectors are too alike to show anything ({spread})"
    assert ours.shape == theirs.shape
    worst = np.abs(ours - theirs).max()
    assert worst <= 1e-4 * scale, f"off by {worst} of {scale}"
