"""Models of other people's making whose vectors would be wrong: refused, or computed right."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.nets import assert_same, exported, module_of, save_module
from tests.helpers.onnx_nets import save
from transforms.backbones import BackboneConfig, export, resolve
from transforms.backbones.network import import_keras, run
from transforms.engines import EngineConfig, load_engine
from transforms.errors import UserError

SIZE = 24


def onnx_net(after: list[Any], height: int = SIZE, width: int = SIZE) -> Any:
    """Make a convolution of 8 channels, ``map``, with some nodes after it, the last ``vector``."""
    random = np.random.RandomState(3)
    weights = {
        "kernel": random.normal(0, 0.3, (8, 3, 3, 3)),
        "ones": np.ones(8),
        "zeros": np.zeros(8),
    }
    graph = helper.make_graph(
        [helper.make_node("Conv", ["photo", "kernel"], ["map"], strides=[2, 2]), *after],
        "net",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["N", 3, height, width])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def keras_net(dtype: str = "float32", batch: int | None = None) -> tuple[Any, Any, Any]:
    """Return Keras, an input, and a vector of 8 numbers."""
    keras = import_keras()
    keras.utils.set_random_seed(5)
    layers = keras.layers
    entry = keras.Input((SIZE, SIZE, 3), batch_size=batch, dtype=dtype)
    x = layers.Rescaling(1 / 255)(entry) if "int" in dtype else entry
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    return keras, entry, layers.GlobalAveragePooling2D()(x)


def training_onnx(folder: Path) -> str:
    node = helper.make_node
    norm = ["map", "ones", "zeros", "zeros", "ones"]
    nodes = [
        node("BatchNormalization", norm, ["same", "mean", "variance"], training_mode=1),
        node("GlobalAveragePool", ["same"], ["pooled"]),
        node("Flatten", ["pooled"], ["vector"]),
    ]
    return save(onnx_net(nodes), folder / "training.onnx")


def centred_keras(folder: Path) -> str:
    keras, entry, vector = keras_net()
    vector = vector - keras.ops.mean(vector, axis=0, keepdims=True)
    outputs = keras.layers.Dense(3, "softmax")(vector)
    keras.Model(entry, outputs).save(folder / "centred.keras")
    return str(folder / "centred.keras")


def centred_saved_model(folder: Path) -> str:
    import tensorflow as tf

    def call(module: Any, pixels: Any) -> Any:
        vector = tf.reduce_mean(tf.nn.conv2d(pixels, module.kernel, 2, "VALID"), (1, 2))
        return tf.nn.softmax((vector - tf.reduce_mean(vector, 0, keepdims=True)) @ module.classes)

    random = np.random.RandomState(1)
    kernel = random.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32)
    classes = random.normal(0, 0.3, (8, 3)).astype(np.float32)
    return save_module(module_of(tf, call, kernel=kernel, classes=classes), folder / "centred")


@pytest.mark.parametrize("make", [training_onnx, centred_keras, centred_saved_model])
def test_a_vector_that_depends_on_the_other_images_is_refused(make: Any, tmp_path: Path) -> None:
    resolved = resolve(BackboneConfig(backbone=make(tmp_path), preprocess="unit"))
    with pytest.raises(UserError, match="depends on the other images of its batch"):
        export(resolved, tmp_path / "export")
    assert not (tmp_path / "export/model.json").exists()


def uint8_saved_model(folder: Path) -> str:
    keras, entry, vector = keras_net("uint8")
    keras.Model(entry, keras.layers.Dense(3)(vector)).export(folder / "uint8", verbose=False)
    return str(folder / "uint8")


def uint8_keras(folder: Path) -> str:
    keras, entry, vector = keras_net("uint8")
    keras.Model(entry, keras.layers.Dense(3)(vector)).save(folder / "uint8.keras")
    return str(folder / "uint8.keras")


@pytest.mark.parametrize("make", [uint8_keras, uint8_saved_model])
def test_a_model_of_whole_numbers_scales_them_itself(
    make: Any, images: np.ndarray, tmp_path: Path
) -> None:
    """Pixels from 0 to 1 would be cut to 0 or 1 without a word."""
    path = make(tmp_path)
    for options in ({"preprocess": "unit"}, {}):
        with pytest.raises(UserError, match="takes whole numbers from 0 to 255, and scales them"):
            resolve(BackboneConfig(backbone=path, **options))
    _, graph = exported(tmp_path / "out", backbone=path, preprocess="none")
    keras, entry, vector = keras_net("uint8")
    assert_same(graph(images)[0], run(keras.Model(entry, vector), images))


def test_a_map_with_its_channels_first_is_pooled_over_its_picture(
    images: np.ndarray, tmp_path: Path
) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(5)
    layers = keras.layers
    entry = keras.Input((SIZE, SIZE, 3))
    x = layers.Permute((3, 1, 2))(entry)
    x = layers.Conv2D(8, 3, strides=2, data_format="channels_first", name="first")(x)
    first = x
    x = layers.Activation("relu", name="relu")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    path = str(tmp_path / "first.keras")
    keras.Model(entry, layers.Dense(3)(x)).save(path)
    truth = run(keras.Model(entry, first), images / np.float32(255)).mean(axis=(2, 3))
    resolved, graph = exported(
        tmp_path / "out", backbone=path, preprocess="unit", feature_layer="first"
    )
    assert resolved.dimension == 8
    assert_same(graph(images)[0], truth)
    with pytest.raises(UserError, match="relu: does not say where its channels are"):
        resolve(BackboneConfig(backbone=path, preprocess="unit", feature_layer="relu"))


@pytest.mark.parametrize(
    ("nodes", "height", "width", "numbers"),
    [
        ([helper.make_node("GlobalAveragePool", ["map"], ["vector"])], 64, 32, 8),
        # 31 x 18 of 63 x 37, whose aspect ratio is another one.
        ([helper.make_node("Relu", ["map"], ["vector"])], 63, 37, 8),
    ],
)
def test_a_map_of_a_picture_that_is_not_square_is_pooled(
    nodes: list[Any], height: int, width: int, numbers: int, tmp_path: Path
) -> None:
    path = save(onnx_net(nodes, height, width), tmp_path / "tall.onnx")
    options = {"backbone": path, "preprocess": "unit", "feature_layer": "vector"}
    resolved, graph = exported(tmp_path / "out", **options)
    pixels = np.random.RandomState(0).randint(0, 256, (2, height, width, 3), np.uint8)
    assert graph(pixels)[0].shape == (2, numbers)
    assert resolved.dimension == numbers


def test_an_output_of_length_1_is_asked_for(images: np.ndarray, tmp_path: Path) -> None:
    """Its last Dense layer is no classifier."""
    keras, entry, vector = keras_net()
    outputs = keras.layers.Dense(5, name="embedding")(vector)
    model = keras.Model(entry, keras.layers.UnitNormalization(name="unit")(outputs))
    path = str(tmp_path / "embedding.keras")
    model.save(path)
    with pytest.raises(UserError, match=r"ends in unit, .* by --feature-layer which one"):
        resolve(BackboneConfig(backbone=path, preprocess="unit"))
    options = {"backbone": path, "preprocess": "unit", "feature_layer": "unit"}
    _, graph = exported(tmp_path / "out", **options)
    assert_same(graph(images)[0], run(model, images / np.float32(255)))


def test_a_fixed_number_of_images_is_one_line(tmp_path: Path) -> None:
    keras, entry, vector = keras_net(batch=1)
    outputs = keras.layers.Dense(3)(keras.ops.reshape(vector, (1, 8)))
    path = str(tmp_path / "one.keras")
    keras.Model(entry, outputs).save(path)
    with pytest.raises(UserError, match="takes 1 images at once, and no other number; save it"):
        resolve(BackboneConfig(backbone=path, preprocess="unit"))


def test_a_layer_that_reads_another_folder_is_refused(tmp_path: Path) -> None:
    """Its file would stay the same when that folder changes."""
    inner = uint8_saved_model(tmp_path)
    keras = import_keras()
    entry = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    layer = keras.layers.TFSMLayer(inner, call_endpoint="serve")
    path = str(tmp_path / "outer.keras")
    keras.Model(entry, layer(entry)).save(path)
    with pytest.raises(UserError, match="reads a SavedModel from another folder"):
        resolve(BackboneConfig(backbone=path, preprocess="none", allow_code=True))


def test_vectors_of_zeros(tmp_path: Path) -> None:
    """One image may have only zeros; a network that gives nothing else is of no use."""
    keras, entry, vector = keras_net()
    model = keras.Model(entry, keras.layers.Dense(3)(vector))
    path, kernel = str(tmp_path / "zeros.keras"), model.get_layer("conv")
    kernel.set_weights([kernel.get_weights()[0], np.full(8, -9, np.float32)])
    model.save(path)
    resolved = resolve(BackboneConfig(backbone=path, preprocess="unit"))
    with pytest.raises(UserError, match="golden images are all zero"):
        export(resolved, tmp_path / "all")

    kernel.set_weights([kernel.get_weights()[0], np.zeros(8, np.float32)])
    model.save(path)
    export(resolve(BackboneConfig(backbone=path, preprocess="unit")), tmp_path / "one")
    with np.load(tmp_path / "one/golden.npz") as golden:
        arrays = dict(golden)
    arrays["images"][2], arrays["vectors"][2] = 0, 0
    np.savez(tmp_path / "one/golden.npz", **arrays)
    load_engine(EngineConfig(str(tmp_path / "one"), "openvino"))
    shutil.copytree(tmp_path / "one", tmp_path / "wrong")
    arrays["vectors"][0] = 0
    np.savez(tmp_path / "wrong/golden.npz", **arrays)
    with pytest.raises(RuntimeError, match="computes other vectors"):
        load_engine(EngineConfig(str(tmp_path / "wrong"), "openvino"))
