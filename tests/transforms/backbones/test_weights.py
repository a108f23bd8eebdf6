"""Weight files of Keras: with or without top, new or legacy, cached, or out of reach."""

import hashlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import assert_same, calibrate, exported, headless, keras_says, pixels
from transforms.backbones import BACKBONES, BackboneConfig, known_weights, resolve
from transforms.backbones.known_weights import KnownFile, imagenet_file
from transforms.backbones.named import builder
from transforms.backbones.network import import_keras
from transforms.backbones.weights import find_weights
from transforms.errors import UserError

NAME, SIZE = "MobileNetV3Small", 64


@pytest.fixture(scope="module")
def images(photos: Path) -> np.ndarray:
    return pixels(photos, SIZE)


@pytest.fixture(scope="module")
def files(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One network of seven classes in every kind of file, and what Keras says with it."""
    folder = tmp_path_factory.mktemp("weights")
    keras = import_keras()
    keras.utils.set_random_seed(1)
    build, _ = builder(BACKBONES[NAME])
    model = build(weights=None, input_shape=(SIZE, SIZE, 3), classes=7)
    calibrate(NAME, model, images)
    notop = headless(NAME, model)
    model.save_weights(folder / "top.weights.h5")
    notop.save_weights(folder / "notop.weights.h5")
    model.save(folder / "whole.h5")
    _save_legacy(model, folder / "top.h5")
    _save_legacy(notop, folder / "notop.h5")
    shutil.copy(folder / "top.h5", folder / "legacy-named-new.weights.h5")
    vectors, labels = keras_says(NAME, notop, images), keras_says(NAME, model, images).argmax(1)
    return {"folder": folder, "vectors": vectors, "labels": labels}


def _save_legacy(model: Any, path: Path) -> None:
    """Write weights in the layout of Keras 2, which Keras 3 reads and does not write."""
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)


KINDS = {
    "top.weights.h5": 7,
    "notop.weights.h5": 0,
    "top.h5": 7,
    "notop.h5": 0,
    "whole.h5": 7,
    "legacy-named-new.weights.h5": 7,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_top_is_found_in_every_kind_of_file(kind: str, files: dict[str, Any]) -> None:
    path = files["folder"] / kind
    weights = find_weights(BACKBONES[NAME], BackboneConfig(weights=str(path)), SIZE, None)
    assert weights.classes == KINDS[kind]
    assert (weights.word, weights.sha256) == (kind, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("kind", ["notop.h5", "legacy-named-new.weights.h5"])
def test_every_kind_of_file_gives_keras_vectors(
    kind: str, files: dict[str, Any], images: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\nf\ng\n")
    options: dict[str, Any] = {
        "backbone": NAME,
        "weights": str(files["folder"] / kind),
        "input_size": SIZE,
    }
    if KINDS[kind]:
        options["labels"] = str(tmp_path / "labels.txt")
    resolved, graph = exported(tmp_path / "out", **options)
    outputs = graph(images)
    assert_same(outputs[0], files["vectors"])
    assert len(outputs) == (3 if KINDS[kind] else 1)
    if KINDS[kind]:
        assert resolved.top_k == 5
        np.testing.assert_array_equal(outputs[2][:, 0], files["labels"])
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])
        assert golden["indices"].shape == (4, resolved.top_k)


def test_another_number_of_classes(files: dict[str, Any], tmp_path: Path) -> None:
    path = str(files["folder"] / "top.weights.h5")
    resolved = resolve(BackboneConfig(backbone=NAME, weights=path))
    assert (resolved.labels, resolved.top_k) == (None, 0)
    assert resolved.notes == (
        "top.weights.h5 has 7 classes: without --labels there are vectors and no labels",
    )
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"has 2 labels, but the weights .* have 7 classes"):
        resolve(BackboneConfig(backbone=NAME, weights=path, labels=str(tmp_path / "labels.txt")))


def test_a_file_of_another_network_is_refused(files: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="does not fit ResNet50: it holds 210 arrays"):
        resolve(
            BackboneConfig(backbone="ResNet50", weights=str(files["folder"] / "top.weights.h5"))
        )


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(b"half a download")
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        resolve(BackboneConfig(backbone=NAME, weights=str(tmp_path / "w.h5")))


def test_a_known_name_with_another_hash_is_refused(files: dict[str, Any], tmp_path: Path) -> None:
    known = tmp_path / imagenet_file(BACKBONES[NAME], 224).name
    shutil.copy(files["folder"] / "top.h5", known)
    with pytest.raises(
        UserError, match=r"another hash than 8768d4c2e7dee89b9d02b2d03d65d862.*https://"
    ) as error:
        resolve(BackboneConfig(backbone=NAME, weights=str(known)))
    assert known.name in str(error.value)
    with pytest.raises(
        UserError, match="is Keras' file for MobileNetV3Small, not for MobileNetV3Large"
    ):
        resolve(BackboneConfig(backbone="MobileNetV3Large", weights=str(known)))


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KnownFile:
    """Imitate a machine without network: nobody listens at the file's address, and no cache."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    file = imagenet_file(BACKBONES[NAME], 224)
    file = KnownFile(
        file.backbone, True, file.name, f"http://127.0.0.1:{port}/{file.name}", file.hash
    )
    monkeypatch.setattr("transforms.backbones.weights.imagenet_file", lambda *_: file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return file


@pytest.fixture
def usual_timeout() -> Iterator[float]:
    """Set a timeout of sockets for the process, as other libraries do."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(7.5)
    yield 7.5
    socket.setdefaulttimeout(before)


def test_without_network_the_ways_out_are_named(
    closed_port: KnownFile, tmp_path: Path, usual_timeout: float
) -> None:
    with pytest.raises(UserError) as error:
        resolve(BackboneConfig(backbone=NAME))
    message = str(error.value)
    assert closed_port.url in message
    assert f"put that file at {tmp_path / 'models' / closed_port.name}" in message
    assert "--weights PATH" in message
    assert "efficientnet_lite0 needs no download" in message
    assert socket.getdefaulttimeout() == usual_timeout


def test_a_half_download_in_the_cache_is_not_taken(
    closed_port: KnownFile, files: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(files["folder"] / "top.h5", tmp_path / "models" / closed_port.name)
    with pytest.raises(UserError, match="could not download"):
        resolve(BackboneConfig(backbone=NAME))


def test_a_file_in_the_cache_is_taken_as_it_is(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    content = (files["folder"] / "top.h5").read_bytes()
    (tmp_path / "models" / "mine.h5").write_bytes(content)
    file = KnownFile(
        NAME, True, "mine.h5", "http://127.0.0.1:9/mine.h5", hashlib.md5(content).hexdigest()
    )
    monkeypatch.setattr("transforms.backbones.weights.imagenet_file", lambda *_: file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    weights = resolve(BackboneConfig(backbone=NAME)).weights
    assert (weights.word, weights.classes) == ("imagenet", 7)
    assert weights.sha256 == hashlib.sha256(content).hexdigest()


def test_the_cache_is_where_keras_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from keras.src.backend import config

    monkeypatch.delenv("KERAS_HOME", raising=False)
    assert str(known_weights.keras_home()) == config.keras_home()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "here"))
    assert known_weights.keras_home() == tmp_path / "here"
