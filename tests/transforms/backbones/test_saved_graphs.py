"""Other SavedModels: loops, several outputs, side blocks, random numbers, counters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import SIZE, assert_same, exported, module_of, save_module
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.network import import_keras, run
from transforms.errors import UserError


def _saved(model: Any, path: Path) -> str:
    model.export(str(path), verbose=False)
    return str(path)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_loop_gives_what_keras_predicts(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    layers = import_keras().layers
    loop = getattr(layers, kind)(5, name="loop")
    rows = layers.Reshape((SIZE, SIZE * 3))
    model = import_keras().Sequential([layers.Input((SIZE, SIZE, 3)), rows, loop, layers.Dense(2)])
    _, graph = exported(
        tmp_path / "out", backbone=_saved(model, tmp_path / "saved"), preprocess="unit"
    )
    truth = run(import_keras().Model(model.inputs, loop.output), images / np.float32(255))
    assert_same(graph(images)[0], truth)


def _pooled(kind: str) -> tuple[Any, np.ndarray]:
    """A model with several outputs, and its pooling: what they all take."""
    keras = import_keras()
    inputs = keras.Input((SIZE, SIZE, 3))
    pool = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    )
    heads = [keras.layers.Dense(3, activation="softmax")(pool), keras.layers.Dense(2)(pool)]
    outputs = dict(zip("ab", heads, strict=True)) if kind == "dictionary" else heads
    return keras.Model(inputs, outputs), keras.Model(inputs, pool)


@pytest.mark.parametrize("kind", ["list", "dictionary"])
def test_several_outputs_give_the_vector_that_all_take(
    kind: str, images: np.ndarray, labels: str, tmp_path: Path
) -> None:
    model, pool = _pooled(kind)
    path = _saved(model, tmp_path / "saved")
    _, graph = exported(tmp_path / "out", backbone=path, preprocess="unit")
    assert_same(graph(images)[0], run(pool, images / np.float32(255)))
    with pytest.raises(UserError, match=r"labels need one output \[N, classes\]"):
        resolve(BackboneConfig(backbone=path, preprocess="unit", labels=labels))


def _squeezed(tail: str) -> Any:
    """A squeeze-and-excitation block of 8 channels with 2 between, and a classifier after it."""
    keras = import_keras()
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = layers.Conv2D(8, 3)(inputs)
    squeezed = layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(maps))
    gate = layers.Reshape((1, 1, 8))(layers.Dense(8, activation="sigmoid")(squeezed))
    scaled = layers.Multiply(name="scaled")([maps, gate])
    if tail == "convolution":
        outputs = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(scaled))
    else:
        outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(scaled))
    return keras.Model(inputs, layers.Softmax()(outputs)), keras.Model(inputs, scaled)


def test_no_vector_is_taken_from_inside_a_block(images: np.ndarray, tmp_path: Path) -> None:
    model, maps = _squeezed("convolution")
    options = {"backbone": _saved(model, tmp_path / "saved"), "preprocess": "unit"}
    with pytest.raises(
        UserError, match=r"has no MatMul .*--feature-layer, such as .*scaled\S*/Mul \(8 numbers\)"
    ):
        resolve(BackboneConfig(**options))
    _, graph = exported(tmp_path / "out", feature_layer="scaled_1/Mul", **options)
    assert_same(graph(images)[0], run(maps, images / np.float32(255)).mean(axis=(1, 2)))
    model, maps = _squeezed("dense")
    _, graph = exported(
        tmp_path / "out", backbone=_saved(model, tmp_path / "dense"), preprocess="unit"
    )
    assert_same(graph(images)[0], run(maps, images / np.float32(255)).mean(axis=(1, 2)))


def test_rows_that_are_no_images_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    layers = [keras.Input((SIZE, SIZE, 3)), keras.layers.Reshape((-1, 3)), keras.layers.Dense(4)]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling1D()])
    with pytest.raises(
        UserError, match=r"has no MatMul|4 images give \d+ vectors; name another operation"
    ):
        resolve(BackboneConfig(backbone=_saved(model, tmp_path / "saved"), preprocess="none"))


def test_an_augmentation_is_refused_where_it_works_and_does_nothing_in_a_keras_file(
    images: np.ndarray, tmp_path: Path
) -> None:
    keras = import_keras()
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = keras.layers.Conv2D(6, 3, activation="relu")
    flat = keras.layers.Flatten()(maps(keras.layers.RandomFlip()(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(3)(flat))
    with pytest.raises(
        UserError, match=r"come of random numbers \(StatelessRandom.*model\.save\('model\.keras'\)"
    ):
        resolve(BackboneConfig(backbone=_saved(model, tmp_path / "saved"), preprocess="none"))
    model.save(tmp_path / "model.keras")
    _, graph = exported(tmp_path / "out", backbone=str(tmp_path / "model.keras"), preprocess="none")
    assert_same(graph(images)[0], maps(images.astype(np.float32)).numpy().reshape(len(images), -1))


@pytest.mark.parametrize("matters", [False, True])
def test_a_counter_is_left_out_unless_it_matters(
    matters: bool, images: np.ndarray, tmp_path: Path
) -> None:
    import tensorflow as tf

    def serve(module: Any, pixels: Any) -> dict[str, Any]:
        module.count.assign_add(1.0)
        pooled = tf.reduce_mean(pixels, [1, 2])
        return {"y": tf.matmul(pooled, module.dense) * (module.count if matters else 1.0)}

    module = module_of(tf, serve, count=np.float32(0), dense=np.ones((3, 2), np.float32))
    options = {"backbone": save_module(module, tmp_path / "saved"), "preprocess": "none"}
    if matters:
        with pytest.raises(UserError, match="other outputs once its variables are fixed"):
            resolve(BackboneConfig(**options))
    else:
        _, graph = exported(tmp_path / "out", **options)
        assert_same(graph(images)[0], images.mean(axis=(1, 2), dtype=np.float32))
