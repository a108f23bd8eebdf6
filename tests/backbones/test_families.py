"""Every family: the exported graph gives Keras' own vectors and labels, for the same pixels and weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from nets import assert_same, calibrated, exported, headless, keras_says, pixels

from transforms.backbones import BACKBONES

SMALLEST = {  # of each family, and an input size that keeps it quick
    "ResNet50": 96,
    "ResNet50V2": 96,
    "MobileNet": 96,
    "MobileNetV2": 128,
    "MobileNetV3Small": 128,
    "EfficientNetV2B0": 96,
    "EfficientNetV2S": 64,
    "ConvNeXtTiny": 64,
    "DenseNet121": 96,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "Xception": 96,
    "NASNetMobile": 96,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_vectors_and_labels_equal_keras(name: str, photos: Path, tmp_path: Path) -> None:
    images = pixels(photos, SMALLEST[name])
    model = calibrated(name, images)
    weights = tmp_path / "w.weights.h5"
    model.save_weights(weights)
    vectors, probabilities = keras_says(name, headless(name, model), images), keras_says(name, model, images)
    resolved, graph = exported(tmp_path / "out", backbone=name, weights=str(weights), input_size=SMALLEST[name])
    ours, scores, indices = graph(images)
    assert_same(ours, vectors)
    assert resolved.dimension == ours.shape[1] == BACKBONES[name].dimension
    assert len(set(probabilities.argmax(1))) > 1
    np.testing.assert_array_equal(indices[:, 0], probabilities.argmax(1))
    np.testing.assert_allclose(scores[:, 0], probabilities.max(1), rtol=1e-3)
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        again, _, best = graph(golden["images"])
        assert_same(again, golden["vectors"])
        np.testing.assert_array_equal(best[:, 0], golden["indices"][:, 0])
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNet", "ConvNeXtTiny"])
def test_max_pooling_equals_keras(name: str, photos: Path, tmp_path: Path) -> None:
    images = pixels(photos, 64)
    model = calibrated(name, images)
    model.save_weights(tmp_path / "w.weights.h5")
    vectors = keras_says(name, headless(name, model, "max"), images)
    options = {"backbone": name, "weights": str(tmp_path / "w.weights.h5"), "input_size": 64, "pooling": "max"}
    _, graph = exported(tmp_path / "out", **options)
    assert_same(graph(images)[0], vectors)
    assert_same(np.load(tmp_path / "out" / "golden.npz")["vectors"], graph(np.load(tmp_path / "out" / "golden.npz")["images"])[0])
