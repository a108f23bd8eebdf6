"""Engines: both give Keras' vectors, and one that does not stops the run."""

import gc
import json
import shutil
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.images import PHOTOS, SIZES, crop, load_photo
from transforms.backbones import BackboneConfig, export, resolve
from transforms.decode.image import DecodePolicy, decode
from transforms.engines import EngineConfig, cosine, load_engine, read_exported, unload_engines
from transforms.engines.models import cache_folder, seal
from transforms.preprocess import image_chain

pytestmark = pytest.mark.usefixtures("own_engines")
ENGINES = ("tensorflow", "openvino")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export(resolve(BackboneConfig()), folder)
    return folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (37, 224, 224, 3), np.uint8)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_golden_batch_is_keras_own_within_a_thousandth(model, engine):
    loaded = load_engine(EngineConfig(str(model), engine))
    with np.load(model / "golden.npz") as golden:
        outputs = loaded.run(golden["images"])
        expected = golden["vectors"]
        assert (outputs.indices[:, 0] == golden["indices"][:, 0]).all()
    np.testing.assert_allclose(outputs.features, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_images_gives_the_same_vectors(model, engine, images):
    loaded = load_engine(EngineConfig(str(model), engine))
    whole = loaded.run(images)
    assert whole.features.shape == (37, 1280)
    assert whole.indices.shape == whole.scores.shape == (37, 5)
    assert (np.diff(whole.scores, axis=1) <= 0).all()
    for start, count in ((0, 1), (5, 3), (36, 1), (0, 32)):
        piece = loaded.run(images[start : start + count])
        np.testing.assert_allclose(piece.features, whole.features[start : start + count], atol=1e-5)


@pytest.fixture(scope="module")
def photos():
    sources = [load_photo(name) for name in PHOTOS]
    encoded = [crop(sources, number, SIZES["small"]) for number in range(48)]
    return np.stack(
        [image_chain((224, 224), "squash")(decode(data, DecodePolicy()).pixels) for data in encoded]
    )


def test_engines_agree_within_a_thousandth(model, photos):
    a, b = (load_engine(EngineConfig(str(model), engine)).run(photos) for engine in ENGINES)
    apart = np.linalg.norm(a.features - b.features, axis=1) / np.linalg.norm(a.features, axis=1)
    assert apart.max() < 1e-3
    assert (a.indices[:, 0] == b.indices[:, 0]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_close(model, photos, engine):
    full = load_engine(EngineConfig(str(model), engine)).run(photos)
    low = load_engine(EngineConfig(str(model), engine, "bfloat16")).run(photos)
    cosines = cosine(full.features, low.features)
    assert cosines.min() >= 0.99
    assert cosines.mean() >= 0.998


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_computes_other_vectors_stops_before_the_first_image(
    model, engine, tmp_path
):
    wrong = tmp_path / "wrong"
    shutil.copytree(model, wrong)
    with np.load(model / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["vectors"] = np.roll(arrays["vectors"], 1, axis=0)
    np.savez(wrong / "golden.npz", **arrays)
    with pytest.raises(
        RuntimeError, match=r"self-check failed: .* computes other vectors than Keras"
    ):
        load_engine(EngineConfig(str(wrong), engine))


def test_an_engine_is_loaded_once_a_process(model):
    config = EngineConfig(str(model), "openvino")
    assert load_engine(config) is load_engine(EngineConfig(str(model), "openvino"))


def test_outputs_share_the_engine_of_an_equal_network(model, images, tmp_path):
    folders = [shutil.copytree(model, tmp_path / name) for name in ("one", "two", "unsealed")]
    for folder in folders[:2]:
        seal(folder)
    one, two, other = (load_engine(EngineConfig(str(folder), "openvino")) for folder in folders)
    assert one is two is not other
    assert load_engine(EngineConfig(str(folders[0]), "openvino", "bfloat16")) is not one
    # The first output is gone, and the engine reads its network again.
    shutil.rmtree(folders[0])
    shutil.rmtree(cache_folder().parent / "openvino")
    two.batch_size = 2
    assert two.run(images[:3]).features.shape == (3, 1280)


def test_a_process_keeps_few_engines(model, tmp_path, monkeypatch):
    monkeypatch.setattr("transforms.engines._KEPT", 2)
    monkeypatch.setattr("transforms.engines._checked", lambda config: SimpleNamespace(model=seen))
    seen = read_exported(model)
    configs = [EngineConfig(str(model), cores=cores) for cores in (1, 2, 3)]
    one, two = map(load_engine, configs[:2])
    assert load_engine(configs[0]) is one
    three = load_engine(configs[2])
    assert [load_engine(config) for config in (configs[2], configs[0])] == [three, one]
    assert load_engine(configs[1]) is not two


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_let_go_leaves_memory(model, engine, images):
    """OpenVINO's queue once held its engine by a callback, and both for ever: 210 MB a time."""
    loaded = load_engine(EngineConfig(str(model), engine))
    loaded.run(images[:1])
    held = weakref.ref(loaded)
    del loaded
    unload_engines()
    gc.collect()
    assert held() is None


def test_a_smaller_batch_gives_the_same_vectors(model, images):
    from transforms.engines.base import read_exported
    from transforms.engines.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(read_exported(model), "float32", 1)
    before = engine.run(images[:10]).features
    engine.batch_size = 2
    np.testing.assert_allclose(engine.run(images[:10]).features, before, atol=1e-5)


@pytest.fixture(scope="module")
def lgamma(tmp_path_factory):
    """A network with an operation that OpenVINO does not have."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("lgamma")
    module = tf.Module()
    kernel = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="pixels")
    module.serve = tf.function(
        lambda pixels: {"y": tf.math.lgamma(tf.reduce_mean(pixels, [1, 2]) + 1) @ kernel}, [spec]
    )
    tf.saved_model.save(module, str(folder / "saved"), {"serving_default": module.serve})
    export(
        resolve(BackboneConfig(backbone=str(folder / "saved"), preprocess="unit")), folder / "out"
    )
    return folder / "out"


def test_auto_takes_tensorflow_where_openvino_cannot_load_and_says_so(lgamma, no_device, caplog):
    import transforms.engines as engines

    loaded = load_engine(EngineConfig(str(lgamma)))
    assert loaded.name == "tensorflow"
    (line,) = [record.getMessage() for record in caplog.records if record.name == engines.__name__]
    assert "openvino cannot load this network" in line
    assert "Lgamma" in line
    assert "tensorflow computes it" in line
    assert "\n" not in line
    with pytest.raises(
        RuntimeError, match=r"^openvino cannot load .*Lgamma.*Try --engine tensorflow$"
    ):
        load_engine(EngineConfig(str(lgamma), "openvino"))
    with np.load(lgamma / "golden.npz") as golden:
        arrays = dict(golden)
    np.savez(lgamma / "golden.npz", **arrays | {"vectors": -arrays["vectors"]})
    unload_engines()
    with pytest.raises(RuntimeError, match="self-check failed: tensorflow in float32"):
        load_engine(EngineConfig(str(lgamma)))


def with_network(model, folder, network):
    """A copy of an export whose model.json says something else of its network; None: nothing."""
    shutil.copytree(model, folder)
    facts = json.loads((folder / "model.json").read_text())
    assert facts.pop("network") == {"format": "graphdef", "file": "graph.pb"}
    (folder / "model.json").write_text(
        json.dumps(facts | ({"network": network} if network else {}))
    )
    return str(folder)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_export_that_does_not_say_its_format_still_works(model, engine, images, tmp_path):
    older = load_engine(EngineConfig(with_network(model, tmp_path / "older", None), engine))
    assert older.model.path == tmp_path / "older/graph.pb"
    newer = load_engine(EngineConfig(str(model), engine))
    np.testing.assert_array_equal(older.run(images[:4]).features, newer.run(images[:4]).features)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_format_that_an_engine_does_not_read_is_named(model, engine, tmp_path):
    folder = with_network(model, tmp_path / "onnx", {"format": "onnx", "file": "network.onnx"})
    said = rf"network\.onnx is in the format onnx, and {engine} reads graphdef"
    with pytest.raises(RuntimeError, match=said):
        load_engine(EngineConfig(folder, engine))


def test_auto_names_the_format_that_no_engine_reads(model, tmp_path):
    folder = with_network(model, tmp_path / "onnx", {"format": "onnx", "file": "network.onnx"})
    with pytest.raises(RuntimeError, match=r"is in the format onnx, and \w+ reads graphdef$"):
        load_engine(EngineConfig(folder))
