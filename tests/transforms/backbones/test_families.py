"""Every family: the exported graph gives Keras' own vectors and labels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import (
    SMALLEST,
    assert_same,
    calibrate,
    exported,
    headless,
    in_openvino,
    in_xla,
    keras_says,
    network_in_openvino,
    pixels,
)
from transforms.backbones import BACKBONES, BackboneConfig, Resolved, export, named, resolve
from transforms.backbones.export import write_graph
from transforms.backbones.named import builder, open_named
from transforms.backbones.network import import_keras
from transforms.engines import ExportedModel


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], list[Any]]:
    """Give the networks that are opened weights that tell photos apart, and collect them."""

    def start(images: np.ndarray) -> list[Any]:
        models: list[Any] = []

        def fill(model: Any, resolved: Resolved) -> None:
            calibrate(resolved.name, model, images)
            models.append(model)

        monkeypatch.setattr(named, "_fill", fill)
        return models

    return start


def _graph(path: Path, **options: Any) -> tuple[Resolved, Callable[[np.ndarray], list[np.ndarray]]]:
    """The graph alone: the golden batch is tested with quicker networks."""
    resolved = resolve(BackboneConfig(weights="random", **options))
    write_graph(open_named(resolved), resolved, path / "graph.pb")
    return resolved, network_in_openvino(path / "graph.pb")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_vectors_and_labels_equal_keras(
    name: str, photos: Path, tmp_path: Path, filled: Any
) -> None:
    images = pixels(photos, SMALLEST[name])
    models = filled(images)
    resolved, graph = _graph(tmp_path, backbone=name, input_size=SMALLEST[name])
    ours, scores, indices = graph(images)
    model = ExportedModel(tmp_path, resolved.input_size, resolved.dimension, resolved.top_k, ())
    by_xla = in_xla(model, images)
    (tmp_path / "graph.pb").unlink()  # a hundred megabytes each add up
    truth = keras_says(name, headless(name, models[0]), images)
    assert_same(ours, truth)
    assert_same(by_xla[0], truth)
    np.testing.assert_array_equal(by_xla[2], indices)
    assert resolved.dimension == ours.shape[1] == BACKBONES[name].dimension
    probabilities = keras_says(name, models[0], images)
    assert len(set(probabilities.argmax(1))) > 1
    np.testing.assert_array_equal(indices[:, 0], probabilities.argmax(1))
    np.testing.assert_allclose(scores[:, 0], probabilities.max(1), rtol=1e-3)
    if name == "MobileNetV3Small":
        # Its top has one more convolution: the classifier takes another vector
        assert models[0].get_layer("logits").input.shape[-1] == 1024 != resolved.dimension == 576


def test_max_pooling_comes_before_the_norm_of_convnext(photos: Path) -> None:
    images, name = pixels(photos, 64), "ConvNeXtTiny"
    resolved = resolve(
        BackboneConfig(backbone=name, weights="random", input_size=64, pooling="max")
    )
    keras = import_keras()
    model = named._build(resolved)
    calibrate(name, model, images)
    ours = keras_says(name, keras.Model(model.input, named._feature(model, resolved)), images)
    assert_same(ours, keras_says(name, headless(name, model, "max"), images))


@pytest.mark.slow
def test_efficientnet_v1_keeps_the_layer_that_keras_builds_for_imagenet_only(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give Keras' own builder our file as if it had downloaded it, as weights="imagenet" does."""
    import keras.src.utils.file_utils as file_utils

    name = "EfficientNetB0"
    images = pixels(
        photos,
        224,
        "chelsea coffee rocket camera",
        # With its top, Keras builds for imagenet at 224 only
    )
    files = {True: str(tmp_path / "top.weights.h5"), False: str(tmp_path / "notop.weights.h5")}
    monkeypatch.setattr(file_utils, "get_file", lambda fname, *_, **__: files["notop" not in fname])
    import_keras()
    build, _ = builder(BACKBONES[name])
    build(weights=None).save_weights(files[True])
    whole = build(weights="imagenet")
    assert [type(layer).__name__ for layer in whole.layers].count("Rescaling") == 2
    calibrate(name, whole, images)
    whole.save_weights(files[True])
    # As Keras builds it for weights=PATH
    plain = headless(name, whole)
    plain.save_weights(files[False])
    truth = keras_says(name, build(weights="imagenet", include_top=False, pooling="avg"), images)
    assert np.abs(keras_says(name, plain, images) - truth).max() > 0.01 * np.abs(truth).max()

    _, graph = exported(tmp_path / "out", backbone=name, weights=files[True])
    ours, _, indices = graph(images)
    assert_same(ours, truth)
    np.testing.assert_array_equal(indices[:, 0], keras_says(name, whole, images).argmax(1))
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])


def test_vgg_gives_pooled_block5_and_labels(photos: Path, tmp_path: Path) -> None:
    """Use 64 pixels as its own size: its first dense layer has 8 instead of 103 million weights."""
    images, row = pixels(photos, 64), replace(BACKBONES["VGG16"], size=64)
    keras = import_keras()
    keras.utils.set_random_seed(0)  # what --weights random does
    build, _ = builder(row)
    model = build(weights=None, input_shape=(64, 64, 3))
    resolved = resolve(BackboneConfig(backbone="VGG16", weights="random"))
    assert (resolved.feature_layer, resolved.weights.sha256) == ("block5_pool", "random-seed-0")
    export(replace(resolved, backbone=row, input_size=(64, 64)), tmp_path)
    graph = in_openvino(tmp_path)
    ours, _, indices = graph(images)
    assert_same(ours, keras_says("VGG16", headless("VGG16", model), images))
    np.testing.assert_array_equal(indices[:, 0], keras_says("VGG16", model, images).argmax(1))
    with np.load(tmp_path / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])


def test_vgg_at_another_size_has_vectors_and_says_that_it_has_no_labels(
    photos: Path, tmp_path: Path
) -> None:
    images = pixels(photos, 64)
    resolved, graph = exported(tmp_path / "out", backbone="vgg16", weights="random", input_size=64)
    assert "224 only" in resolved.notes[0]
    assert (resolved.top_k, resolved.recipe_fields["labels"]) == (0, None)
    (vectors,) = graph(images)
    keras = import_keras()
    keras.utils.set_random_seed(0)
    build, _ = builder(BACKBONES["VGG16"])
    truth = build(weights=None, include_top=False, pooling="avg", input_shape=(64, 64, 3))
    assert_same(vectors, keras_says("VGG16", truth, images))
