"""The exported folder: its files, what each option changes in it, and a crash in the middle."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import LABELS, SIZE, assert_same, exported, in_openvino, net, pixels
from transforms.backbones import BackboneConfig, export, resolve
from transforms.backbones.golden import golden_images
from transforms.backbones.labels import imagenet_labels


@pytest.fixture(scope="module")
def images(photos: Path) -> np.ndarray:
    return pixels(photos, 64)


@pytest.fixture(scope="module")
def plain(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    _, graph = exported(folder, input_size=64)
    return {"folder": folder, "outputs": graph(images)}


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Any]:
    """A small network of the user's, which exports in a second."""
    net().save(tmp_path / "tiny.keras")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    return {
        "backbone": str(tmp_path / "tiny.keras"),
        "preprocess": "unit",
        "labels": str(tmp_path / "labels.txt"),
    }


def test_model_json_says_what_the_graph_is(plain: dict[str, Any]) -> None:
    assert json.loads((plain["folder"] / "model.json").read_text(encoding="utf-8")) == {
        "format": 1,
        "network": {"format": "graphdef", "file": "graph.pb"},
        "input_size": [64, 64],
        "dimension": 1280,
        "top_k": 5,
        "labels": list(imagenet_labels()),
        "parameters": 4_694_024,
    }
    assert sorted(path.name for path in plain["folder"].iterdir()) == [
        "golden.npz",
        "graph.pb",
        "model.json",
    ]


def test_the_graph_takes_and_gives_what_engines_expect(plain: dict[str, Any]) -> None:
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((plain["folder"] / "graph.pb").read_bytes())
    (images,) = [node for node in graph.node if node.op == "Placeholder"]
    assert images.name == "images"
    assert images.attr["dtype"].type == tf.uint8.as_datatype_enum
    assert [d.size for d in images.attr["shape"].shape.dim] == [-1, 64, 64, 3]
    assert {"features", "scores", "indices"} <= {node.name for node in graph.node}
    assert not [node.op for node in graph.node if "Variable" in node.op or node.device]
    assert (
        sum(node.op == "Conv2D" for node in graph.node) == 33
        # once: vectors and labels share one pass
    )


def test_l2_gives_vectors_of_length_one(tiny: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    images = pixels(photos, SIZE)
    original, _, labels = exported(tmp_path / "none", **tiny)[1](images)
    vectors, _, indices = exported(tmp_path / "l2", **tiny, normalize="l2")[1](images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert_same(vectors, original / np.linalg.norm(original, axis=1, keepdims=True))
    np.testing.assert_array_equal(indices, labels)
    with np.load(tmp_path / "l2" / "golden.npz") as golden:
        np.testing.assert_allclose(np.linalg.norm(golden["vectors"], axis=1), 1, atol=1e-5)


def test_l2_leaves_a_zero_vector_zero(tiny: dict[str, Any], tmp_path: Path) -> None:
    """A network whose biases are 0, as a new one's are, gives that for a black image."""
    net().save(tiny["backbone"])
    _, graph = exported(tmp_path / "out", **{**tiny, "preprocess": "unit"}, normalize="l2")
    assert (graph(np.zeros((2, SIZE, SIZE, 3), np.uint8))[0] == 0).all()


def test_top_k_and_none_at_all(tiny: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    images = pixels(photos, SIZE)
    vectors, scores, indices = exported(tmp_path / "all", **tiny)[1](images)
    assert (
        scores.shape == indices.shape == (len(images), 3)
        # Five were asked for, and there are three
    )
    one = exported(tmp_path / "one", **tiny, top_k=1)[1](images)
    np.testing.assert_array_equal(one[2], indices[:, :1])
    _, none = exported(tmp_path / "none", **tiny, top_k=0)
    (alone,) = none(images)
    assert_same(alone, vectors)
    facts = json.loads((tmp_path / "none" / "model.json").read_text(encoding="utf-8"))
    assert (facts["labels"], facts["top_k"]) == (None, 0)


def test_pooling_max_is_the_maximum(
    plain: dict[str, Any], images: np.ndarray, tmp_path: Path
) -> None:
    _, graph = exported(tmp_path, input_size=64, pooling="max")
    assert (graph(images)[0] >= plain["outputs"][0] - 1e-4).all()
    assert graph(images)[0].mean() > 1.2 * plain["outputs"][0].mean()
    with np.load(tmp_path / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])


def test_feature_layer_takes_any_layer_of_a_known_network(
    images: np.ndarray, tmp_path: Path
) -> None:
    resolved, graph = exported(tmp_path, input_size=64, feature_layer="predictions")
    vectors, _, indices = graph(images)
    assert vectors.shape[1] == resolved.dimension == 1000
    assert resolved.recipe_fields["feature_layer"] == "predictions"
    np.testing.assert_array_equal(vectors.argmax(1), indices[:, 0])
    with np.load(tmp_path / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])


def test_a_crash_leaves_no_folder_that_looks_whole(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved, folder = resolve(BackboneConfig(**tiny)), tmp_path / "out"
    export(resolved, folder)
    assert (folder / "model.json").exists()

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", no_space)
    with pytest.raises(OSError, match="no space"):
        export(resolved, folder)
    assert not (folder / "model.json").exists()


def test_golden_images_are_unlike_each_other() -> None:
    images = golden_images(40, 60)
    assert (images.shape, images.dtype) == ((4, 40, 60, 3), np.uint8)
    assert (images == golden_images(40, 60)).all()
    means = [np.abs(a.astype(float) - b).mean() for i, a in enumerate(images) for b in images[:i]]
    assert min(means) > 40


def test_a_wrong_value_range_shows_in_the_golden_batch(tmp_path: Path) -> None:
    """Golden vectors come from Keras' own preprocessing, so they reveal a wrong table row."""
    export(replace(resolve(BackboneConfig(input_size=64)), preprocess="torch"), tmp_path)
    with np.load(tmp_path / "golden.npz") as golden, pytest.raises(AssertionError, match="off by"):
        assert_same(in_openvino(tmp_path)(golden["images"])[0], golden["vectors"])
