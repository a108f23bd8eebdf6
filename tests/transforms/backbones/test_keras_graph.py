"""Models inside a Keras model: which vector is the classifier's, and how their layers are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import LABELS, SIZE, assert_same, exported
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.network import import_keras, run
from transforms.errors import UserError


def _transfer(answers: Any = None) -> Any:
    """A base with squeeze-and-excitation and a head, both models of their own."""
    keras = import_keras()
    keras.utils.set_random_seed(9)
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="conv")(inputs)
    gate = layers.Dense(8, activation="relu", name="squeeze")(layers.GlobalAveragePooling2D()(x))
    gate = layers.Dense(16, activation="sigmoid", name="excite")(gate)
    base = keras.Model(
        inputs, layers.Multiply(name="gated")([x, layers.Reshape((1, 1, 16))(gate)]), name="base"
    )
    head = keras.Sequential(
        [layers.Dropout(0.5), layers.Dense(3, activation="softmax", name="answer")], name="head"
    )
    photo = keras.Input((SIZE, SIZE, 3))
    vector = layers.GlobalAveragePooling2D(name="vector")(
        base(layers.RandomFlip()(photo), training=False)
    )
    answer = head(vector)
    return keras.Model(photo, answers(answer) if answers else answer), keras.Model(
        inputs, [x, base.output]
    )


def test_the_vector_is_what_a_nested_head_takes(images: np.ndarray, tmp_path: Path) -> None:
    model, maps = _transfer()
    model.save(tmp_path / "own.keras")
    inputs = images / np.float32(255)
    conv, gated = (rows.mean(axis=(1, 2)) for rows in run(maps, inputs))
    for layer, truth in ((None, gated), ("base", gated), ("base/conv", conv)):
        resolved, graph = exported(
            tmp_path / "out",
            backbone=str(tmp_path / "own.keras"),
            preprocess="unit",
            feature_layer=layer,
        )
        assert resolved.feature_layer == (layer or "input of head/answer")
        assert_same(graph(images)[0], truth)
    with pytest.raises(UserError, match="no such layer; close: base/conv"):
        resolve(
            BackboneConfig(
                backbone=str(tmp_path / "own.keras"), preprocess="unit", feature_layer="conv"
            )
        )


def test_outputs_by_name_are_taken(images: np.ndarray, tmp_path: Path) -> None:
    model, _ = _transfer(lambda answer: {"answer": answer})
    model.save(tmp_path / "own.keras")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    _, graph = exported(tmp_path / "out", backbone=str(tmp_path / "own.keras"), preprocess="unit",
                        labels=str(tmp_path / "labels.txt"))  # fmt: skip
    answer = run(model, images / np.float32(255))["answer"]
    np.testing.assert_allclose(graph(images)[1], np.sort(answer)[:, ::-1], atol=1e-5)


def test_a_classifier_that_is_no_dense_layer_is_asked_for(tmp_path: Path) -> None:
    keras = import_keras()
    model, _ = _transfer()
    maps = model.get_layer("base").output
    answer = keras.layers.Conv2D(3, 1, name="answer")(
        keras.layers.GlobalMaxPooling2D(keepdims=True)(maps)
    )
    keras.Model(model.get_layer("base").inputs, keras.layers.Flatten()(answer)).save(
        tmp_path / "own.keras"
    )
    with pytest.raises(
        UserError, match=r"no Dense layer whose input would be the vector.*--feature-layer.*answer"
    ):
        resolve(BackboneConfig(backbone=str(tmp_path / "own.keras"), preprocess="unit"))


def test_a_model_of_mixed_precision_is_computed_in_float32(
    images: np.ndarray, tmp_path: Path
) -> None:
    keras = import_keras()
    plain, _ = _transfer()
    model = keras.Model(plain.inputs, plain.get_layer("vector").output)
    truth = run(model, images / np.float32(255))
    for layer in plain._flatten_layers():
        layer.dtype_policy = "mixed_bfloat16"
    plain.save(tmp_path / "own.keras")
    _, graph = exported(tmp_path / "out", backbone=str(tmp_path / "own.keras"), preprocess="unit")
    assert_same(graph(images)[0], truth)
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])
