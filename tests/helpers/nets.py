"""Share what tests of backbones need: photos as pixels, networks to compare, exports that run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transforms.backbones import BACKBONES, BackboneConfig, Resolved, export, resolve
from transforms.backbones.golden import golden_images
from transforms.backbones.named import builder
from transforms.backbones.network import import_keras, run, set_weights

PHOTOS = "astronaut chelsea coffee rocket hubble_deep_field retina motorcycle_left camera"
SIZE = 24


LABELS = ["cat", "dog", "bird"]
# The smallest network of each family, with an input size that keeps the test quick.
SMALLEST = {
    "ResNet50": 96,
    "ResNet50V2": 96,
    "MobileNet": 96,
    "MobileNetV2": 128,
    "MobileNetV3Small": 128,
    "EfficientNetV2B0": 96,
    "ConvNeXtTiny": 64,
    "DenseNet121": 96,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "Xception": 96,
    "NASNetMobile": 96,
}


def net(size: int | None = SIZE, activation: str | None = "softmax", scaling: bool = False) -> Any:
    """Make a small classifier of three classes with seeded weights."""
    keras = import_keras()
    keras.utils.set_random_seed(9)
    layers = keras.layers
    inputs = keras.Input((size, size, 3), name="photo")
    x = layers.Rescaling(1 / 255, name="scaling")(inputs) if scaling else inputs
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_again")(x)
    x = layers.Flatten(name="flat")(x) if size else layers.GlobalAveragePooling2D(name="flat")(x)
    x = layers.Dense(5, activation="tanh", name="hidden")(x)
    outputs = layers.Dense(len(LABELS), activation=activation, name="answer")(
        layers.Dropout(0.5)(x)
    )
    return keras.Model(inputs, outputs)


def pixels(folder: Path, size: int, names: str = PHOTOS) -> np.ndarray:
    """Read photos, squashed to uint8 [N, size, size, 3]."""
    opened = [Image.open(next(folder.glob(f"{name}.*"))) for name in names.split()]
    return np.stack(
        [
            np.asarray(i.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
            for i in opened
        ]
    )


def calibrate(name: str, model: Any, images: np.ndarray) -> None:
    """Change a model's seeded weights so that they tell photos apart.

    Random weights make deep networks give nearly the same vector for every image, and then a wrong
    network would pass the test. So each BatchNormalization takes the statistics of these photos and
    of the golden images (no variance so small that it magnifies rounding), and ConvNeXt's layer
    scales, which start as 1e-6, become those of a trained network.
    """
    _, preprocess = builder(BACKBONES[name])
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
            layer.set_weights(
                [np.array([0.48, 0.46, 0.41]), np.array([0.05, 0.06, 0.07]), np.array(1)]
            )
            layer.finalize_state()
    batch = np.concatenate([images, golden_images(*images.shape[1:3])])
    model(preprocess(batch.astype(np.float32)), training=True)
    # 94 convolutions magnify rounding more: processors with AVX512-VNNI differed by 1.13e-4.
    least = 1.0 if name == "InceptionV3" else 0.5
    for layer in norms:
        variance = layer.moving_variance.numpy()
        layer.moving_variance.assign(np.maximum(variance, least * variance.mean()))
    # Set the classifier's bias so that no class wins for every photo.
    bias = model.weights[-1]
    bias.assign(bias - np.log(run(model, preprocess(batch.astype(np.float32)))).mean(axis=0))


def headless(name: str, model: Any, pooling: str = "avg") -> Any:
    """Return Keras' include_top=False network with the weights of a model that has its top."""
    build, _ = builder(BACKBONES[name])
    shape = model.input_shape[1:]
    notop = build(weights=None, include_top=False, pooling=pooling, input_shape=shape)
    set_weights(notop, model.get_weights()[: len(notop.weights)])
    return notop


def keras_says(name: str, model: Any, images: np.ndarray) -> np.ndarray:
    """Return the model's output for pixels, through that family's own preprocess_input."""
    _, preprocess = builder(BACKBONES[name])
    return run(model, preprocess(images.astype(np.float32)))


def exported(
    folder: Path, **options: Any
) -> tuple[Resolved, Callable[[np.ndarray], list[np.ndarray]]]:
    """Resolve, export and open a network: return what was resolved, and a function of pixels."""
    resolved = resolve(BackboneConfig(**options))
    export(resolved, folder)
    return resolved, in_openvino(folder)


def in_openvino(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Open an export without Keras: pixels → vectors, and scores and indices with labels."""
    from transforms.engines import read_exported

    return network_in_openvino(read_exported(folder).path)


def in_xla(model: Any, images: np.ndarray) -> list[np.ndarray]:
    """Compute images with the graph of an export, lowered for them and compiled for this CPU.

    XLA does not optimize, since that takes longer than all the rest.
    """
    import jax
    from jax._src import compiler
    from jax._src.lib import xla_client

    from transforms.backbones.stablehlo import lowered

    [module], weights = lowered(model, [len(images)])
    device = jax.local_devices()[0]
    options = compiler.get_compile_options(
        1, 1, env_options_overrides={"xla_backend_optimization_level": "0"}
    )
    devices = xla_client.DeviceList((device,))
    program = device.client.compile_and_load(module, devices, options)
    return [np.asarray(own) for own in program.execute(jax.device_put([images, *weights]))]


def network_in_openvino(file: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Open the network of an export alone; see ``in_openvino``."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = {name for output in compiled.outputs for name in output.names}
    names = [f"{name}:0" for name in ("features", "scores", "indices") if f"{name}:0" in given]

    def run_graph(images: np.ndarray) -> list[np.ndarray]:
        outputs = compiled({"images:0": images})
        return [outputs[name].copy() for name in names]

    return run_graph


def in_tensorflow(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Open it in TensorFlow, which takes several seconds more for a deep network."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((folder / "graph.pb").read_bytes())
    names = [
        name
        for name in ("features", "scores", "indices")
        if name in {node.name for node in graph.node}
    ]
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    function = wrapped.prune(
        "images:0", [wrapped.graph.get_tensor_by_name(f"{name}:0") for name in names]
    )
    return lambda images: [tensor.numpy() for tensor in function(tf.constant(images))]


def assert_same(ours: np.ndarray, theirs: np.ndarray, within: float = 1e-4) -> None:
    """Compare to a share of the largest number; the vectors themselves differ by far more."""
    scale = np.abs(theirs).max()
    spread = np.abs(theirs - theirs.mean(axis=0)).max() / scale
    assert spread > 0.02, f"these vectors are too alike to show anything ({spread})"
    assert ours.shape == theirs.shape
    worst = np.abs(ours - theirs).max()
    assert worst <= within * scale, f"off by {worst} of {scale}"


def module_of(tf: Any, function: Any, size: int | None = SIZE, **variables: np.ndarray) -> Any:
    """Make a plain tf.Module with one function of images, without Keras."""
    module = tf.Module()
    for name, value in variables.items():
        setattr(module, name, tf.Variable(value))
    spec = tf.TensorSpec([None, size, size, 3], tf.float32, name="pixels")
    module.serve = tf.function(lambda pixels: function(module, pixels), input_signature=[spec])
    return module


def save_module(module: Any, path: Path) -> str:
    import tensorflow as tf

    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return str(path)
