"""Kept compiled networks: the same vectors, whatever lies in the cache."""

import hashlib

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

from transforms.backbones import BackboneConfig, export, resolve
from transforms.engines import EngineConfig, load_engine, unload_engines
from transforms.engines.models import seal

pytestmark = pytest.mark.usefixtures("own_engines")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export(resolve(BackboneConfig()), folder)
    seal(folder)
    return folder


@pytest.fixture
def load(model, tmp_path, monkeypatch):
    """Return a function that loads the network anew, with an empty cache at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def start():
        unload_engines()
        return load_engine(EngineConfig(str(model), "openvino"))

    return start


def kept(tmp_path):
    [file] = (tmp_path / "image-features/openvino").iterdir()
    return file


def with_digest(network):
    return hashlib.sha256(network).digest() + network


def other_network():
    """Compile a network with the right inputs and outputs, whose vectors are all 1."""
    images = opset13.parameter([4, 224, 224, 3], np.uint8, "images")
    results = []
    for name, kind, length in (("features", np.float32, 1280), ("scores", np.float32, 5),
                               ("indices", np.int32, 5)):  # fmt: skip
        results.append(opset13.constant(np.ones((4, length), kind)).output(0))
        results[-1].tensor.names = {f"{name}:0"}
    images.output(0).tensor.names = {"images:0"}
    network = ov.Model(results, [images])
    return ov.Core().compile_model(network, "CPU").export_model().getvalue()


def test_what_was_kept_is_loaded_and_gives_the_same_bits(load, tmp_path):
    first = load()
    assert first.kept is None
    vectors = first.run(IMAGES).features
    again = load()
    assert again.kept == kept(tmp_path)
    np.testing.assert_array_equal(again.run(IMAGES).features, vectors)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "junk", "other"])
def test_a_file_that_is_not_the_network_changes_nothing(load, tmp_path, damage):
    vectors = load().run(IMAGES).features
    file = kept(tmp_path)
    data = file.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    broken = {
        "empty": lambda: b"",
        "cut": lambda: data[:middle],
        "changed": lambda: flipped,
        "junk": lambda: with_digest(b"no network"),
        "other": lambda: with_digest(other_network()),
    }
    file.write_bytes(found := broken[damage]())
    engine = load()
    np.testing.assert_array_equal(engine.run(IMAGES).features, vectors)
    assert load().kept == file
    assert file.read_bytes() != found


def test_a_cache_that_takes_no_file_is_left_alone(load, tmp_path):
    (tmp_path / "image-features").write_text("a file where the folder belongs")
    assert load().run(IMAGES).features.shape == (6, 1280)


def test_a_user_without_a_home_has_no_cache(load, monkeypatch):
    load()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    engine = load()
    assert (engine.name, engine.kept) == ("openvino", None)


def test_another_precision_has_a_file_of_its_own(load, model, tmp_path):
    load()
    load_engine(EngineConfig(str(model), "openvino", "bfloat16"))
    assert len(list((tmp_path / "image-features/openvino").iterdir())) == 2
