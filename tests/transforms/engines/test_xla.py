"""The engine xla, on a CPU: the same vectors as Keras and TensorFlow, in a process without them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipeline import BackboneConfig, Config, extract, verify
from pipeline.cli import main
from pipeline.maintenance.vacuum import vacuum
from tests.helpers.nets import net
from tests.helpers.outputs import FORTNIGHT, later
from tests.helpers.runs import read_features, vectors
from transforms.backbones import resolve
from transforms.backbones.exported import exported, network_ids
from transforms.embed import embed
from transforms.engines import EngineConfig, load_engine
from transforms.engines.base import STABLEHLO_BATCHES
from transforms.errors import UserError

SMALL = BackboneConfig("MobileNetV3Small", weights="random", input_size=32)


@pytest.fixture(scope="module")
def small():
    """Return the folders of an export: the graph, and what is lowered from it."""
    return list(exported(resolve(SMALL), True).values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ConvNeXtTiny", "own"])
def test_networks_give_the_vectors_of_keras(name, tmp_path):
    config = BackboneConfig(name, weights="random", input_size=32)
    if name == "own":
        net().save(tmp_path / "own.keras")
        config = BackboneConfig(str(tmp_path / "own.keras"), preprocess="tf")
    *_, folder = exported(resolve(config), True).values()
    with np.load(folder / "golden.npz") as golden:
        outputs = load_engine(EngineConfig(str(folder), "xla")).run(golden["images"])
        scale = np.abs(golden["vectors"]).max()
        np.testing.assert_allclose(outputs.features, golden["vectors"], atol=1e-4 * scale)
        if outputs.indices.size:
            assert (outputs.indices[:, 0] == golden["indices"][:, 0]).all()


def test_any_number_of_images_gives_the_vectors_of_tensorflow(small):
    images = np.random.default_rng(0).integers(0, 256, (19, 32, 32, 3), np.uint8)
    graph, lowered = small
    ours = load_engine(EngineConfig(str(lowered), "xla"))
    theirs = load_engine(EngineConfig(str(graph), "tensorflow")).run(images)
    for batch_size in (8, 64):
        ours.batch_size = batch_size
        outputs = ours.run(images)
        scale = np.abs(theirs.features).max()
        np.testing.assert_allclose(outputs.features, theirs.features, atol=1e-4 * scale)
        np.testing.assert_allclose(outputs.scores, theirs.scores, atol=1e-5)
        assert outputs.indices.shape == theirs.indices.shape == (19, 5)


def test_a_worker_needs_no_tensorflow(small):
    code = (
        "import sys, numpy as np\n"
        "from transforms.engines import EngineConfig, load_engine\n"
        "engine = load_engine(EngineConfig(sys.argv[1], 'xla'))\n"
        "print(engine.run(np.zeros((3, 32, 32, 3), np.uint8)).features.shape)\n"
        "print([name for name in ('tensorflow', 'keras', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(small[1])], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["(3, 576)", "[]"], done.stderr


def test_a_device_that_is_full_gets_smaller_batches(small):
    engine = load_engine(EngineConfig(str(small[1]), "xla"))
    errors = engine._jax.errors

    class Full:
        def execute(self, arguments):
            raise errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: out of memory while trying to allocate"
            )

    engine.batch_size = 64
    engine._programs[64] = Full()
    images = np.zeros((70, 32, 32, 3), np.uint8)
    outputs, failures = embed(engine, images)
    assert not failures
    assert engine.batch_size == 32
    assert np.ptp(outputs.features, axis=0).max() == 0


def test_a_wrong_golden_batch_stops_the_worker(small, tmp_path):
    wrong = shutil.copytree(small[1], tmp_path / "wrong")
    with np.load(wrong / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["vectors"] = np.roll(arrays["vectors"], 1, axis=0)
    np.savez(wrong / "golden.npz", **arrays)
    with pytest.raises(RuntimeError, match="xla in float32 computes other vectors than Keras"):
        load_engine(EngineConfig(str(wrong), "xla"))


def test_a_whole_run_gives_the_table_of_tensorflow(folder, tmp_path):
    for engine in ("tensorflow", "xla"):
        extract(
            Config(
                inputs=(str(folder),), output=str(tmp_path / engine), network=SMALL, engine=engine
            )
        )
    ours, theirs = read_features(tmp_path / "xla"), read_features(tmp_path / "tensorflow")
    scale = np.abs(vectors(theirs)).max()
    np.testing.assert_allclose(vectors(ours), vectors(theirs), atol=1e-4 * scale)
    assert ours["label"].equals(theirs["label"])
    # The engine is no part of the recipe: either one continues the table.
    assert ours["recipe"].equals(theirs["recipe"])
    assert not list(verify(tmp_path / "xla", sample=6).problems)
    run = next((tmp_path / "xla/runs").iterdir())
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    stored = {path.name for path in (tmp_path / "xla/models").iterdir()}
    assert stored == set(network_ids(recipe))
    vacuum(tmp_path / "xla", FORTNIGHT, now=later())
    assert {path.name for path in (tmp_path / "xla/models").iterdir()} == stored


def test_each_batch_size_has_a_file(small):
    names = {path.name for path in small[1].glob("*.stablehlo")}
    assert names == {f"network-{batch}.stablehlo" for batch in STABLEHLO_BATCHES}


def test_without_jax_one_line_says_what_to_install(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax", None)
    words = ["extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    assert main([*words, "--engine", "xla"]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "--engine xla: jax is not installed. pip install" in said


def test_another_precision_is_refused_before_any_work(folder, tmp_path):
    config = Config(
        inputs=(str(folder),), output=str(tmp_path / "out"), engine="xla", precision="bfloat16"
    )
    with pytest.raises(UserError, match="xla computes in float32 only"):
        extract(config)
    assert not (tmp_path / "out").exists()


def test_selfcheck_and_trace_take_it(folder, capsys):
    network = ["--backbone", "MobileNetV3Small", "--weights", "random", "--input-size", "32"]
    assert main(["selfcheck", *network, "--engine", "xla"]) == 0
    assert "MobileNetV3Small on xla in float32: right" in capsys.readouterr().out
    photo = str(next(folder.iterdir()))
    assert main(["trace", photo, *network, "--engine", "xla"]) == 0
    assert "XlaEngine" in capsys.readouterr().out
