"""Vision transformers give tokens [N, T, D]: the first one, their mean or their maximum."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.helpers.nets import SIZE, assert_same, exported
from tests.helpers.onnx_nets import ort_says, save, small_net
from transforms.backbones import BackboneConfig, resolve
from transforms.errors import UserError

TAKE = {
    "cls": lambda tokens: tokens[:, 0],
    "avg": lambda tokens: tokens.mean(axis=1),
    "max": lambda tokens: tokens.max(axis=1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokens.onnx, tokens.keras and tokens/, a SavedModel."""
    import keras

    folder = tmp_path_factory.mktemp("tokens")
    model = small_net(outputs=("last_hidden_state",))
    shape = numpy_helper.from_array(np.array([0, 8, -1]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["map", "shape"], ["rows"]))
    transpose = helper.make_node("Transpose", ["rows"], ["last_hidden_state"], perm=[0, 2, 1])
    model.graph.node.append(transpose)
    save(model, folder / "tokens.onnx")
    keras.utils.set_random_seed(5)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 6, 6, name="patches")(inputs)
    x = keras.layers.Reshape((16, 8), name="tokens")(x)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x))
    own = keras.Model(inputs, outputs)
    own.save(folder / "tokens.keras")
    own.export(folder / "tokens", verbose=False)
    return folder


@pytest.mark.parametrize("pooling", TAKE)
def test_the_tokens_of_an_onnx_file(
    pooling: Any, folder: Path, images: np.ndarray, tmp_path: Path
) -> None:
    path = folder / "tokens.onnx"
    resolved, run = exported(tmp_path, backbone=str(path), preprocess="unit", pooling=pooling)
    assert resolved.recipe_fields["pooling"] == pooling
    values = (images / np.float32(255)).transpose(0, 3, 1, 2)
    assert_same(run(images)[0], TAKE[pooling](ort_says(path, "last_hidden_state", values)))


@pytest.mark.parametrize(
    ("name", "layer"), [("tokens.keras", "tokens"), ("tokens", "patches")], ids=["keras", "saved"]
)
def test_the_tokens_of_a_keras_model(
    name: str, layer: str, folder: Path, images: np.ndarray, tmp_path: Path
) -> None:
    import keras

    own = keras.models.load_model(folder / "tokens.keras")
    tokens = keras.Model(own.input, own.get_layer("tokens").output)(images / np.float32(255))
    options = {"backbone": str(folder / name), "preprocess": "unit"}
    if name == "tokens":
        listed = _tokens_operation(folder / name)
        options["feature_layer"] = listed
    else:
        options["feature_layer"] = layer
    with pytest.raises(UserError, match=r"--pooling is missing: .* gives tokens .*cls"):
        resolve(BackboneConfig(**options))
    for pooling, take in TAKE.items():
        _, run = exported(tmp_path / pooling, pooling=pooling, **options)
        assert_same(run(images)[0], take(tokens.numpy()))


def _tokens_operation(path: Path) -> str:
    """Return the operation of a SavedModel that makes tokens."""
    from transforms.backbones.custom import inspect

    layers = inspect(BackboneConfig(backbone=str(path))).layers
    return next(layer.name for layer in layers if layer.shape == "[N, 16, 8]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"--pooling is missing: last_hidden_state \[N, 81, 8\] f32 gives tokens"),
        ({"pooling": "cls", "feature_layer": "map"}, "--pooling cls: map gives a map, which has"),
        ({"pooling": "cls", "backbone": "efficientnet_lite0", "preprocess": None},
         "--pooling cls: efficientnet_lite0 gives maps"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_or_done_is_named(
    options: dict[str, Any], message: str, folder: Path
) -> None:
    given = {"backbone": str(folder / "tokens.onnx"), "preprocess": "unit", **options}
    with pytest.raises(UserError, match=message):
        resolve(BackboneConfig(**given))
