"""The engine xla, on a CPU: the same vectors as Keras and TensorFlow, in a process without them."""

import json
import os
import shutil
import subprocess
import sys

import jax
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
from transforms.engines import (
    MIN_COSINE,
    EngineConfig,
    cosine,
    load_engine,
    unload_engines,
    xla_program,
)
from transforms.engines.base import STABLEHLO_BATCHES
from transforms.engines.xla_program import keep_programs

SMALL = BackboneConfig("MobileNetV3Small", weights="random", input_size=32)


@pytest.fixture(scope="module")
def small():
    """Return the folders of an export: the graph, and what is lowered from it."""
    return list(exported(resolve(SMALL), True).values())


def test_a_model_of_ones_own_gives_the_vectors_of_keras(tmp_path):
    """The families of named networks: tests/transforms/backbones/test_families.py."""
    net().save(tmp_path / "own.keras")
    config = BackboneConfig(str(tmp_path / "own.keras"), preprocess="tf")
    *_, folder = exported(resolve(config), True).values()
    with np.load(folder / "golden.npz") as golden:
        outputs = load_engine(EngineConfig(str(folder), "xla")).run(golden["images"])
        scale = np.abs(golden["vectors"]).max()
        np.testing.assert_allclose(outputs.features, golden["vectors"], atol=1e-4 * scale)


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


def test_lowering_leaves_no_temporary_file(small, tmp_path):
    """AutoGraph would write one for each process, and delete it only at a normal end."""
    for name in ("scratch", "lowered"):
        (tmp_path / name).mkdir()
    code = (
        "import os; from pathlib import Path; from transforms.backbones.stablehlo import lower; "
        f"lower(Path({str(small[0])!r}), Path({str(tmp_path / 'lowered')!r})); os._exit(0)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "lowered/weights.npz").exists()
    assert not list((tmp_path / "scratch").iterdir())


def test_the_batch_sizes_share_the_weights(small):
    sizes = {path.name: path.stat().st_size for path in small[1].iterdir()}
    modules = [sizes[f"network-{batch}.stablehlo"] for batch in STABLEHLO_BATCHES]
    assert max(modules) < sizes["weights.npz"] / 10


def test_without_jax_one_line_says_what_to_install(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax", None)
    words = ["extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    assert main([*words, "--engine", "xla"]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "--engine xla: jax is not installed. pip install" in said


@pytest.fixture(scope="module")
def lite():
    """Return the folder of EfficientNet-Lite0, with its real weights, at a small size."""
    *_, folder = exported(resolve(BackboneConfig(input_size=64)), True).values()
    return folder


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.9995), ("float16", 0.999999)])
def test_shorter_types_stay_close_to_keras_and_are_not_float32(lite, precision, most):
    """The worst of the golden images is noise, at 0.9990 and 0.99997; the bound is the run's."""
    with np.load(lite / "golden.npz") as golden:
        images, expected = golden["images"], golden["vectors"]
    got = load_engine(EngineConfig(str(lite), "xla", precision)).run(images).features
    cosines = cosine(got, expected)
    assert MIN_COSINE[precision] <= cosines.min() <= most


def products(folder, precision):
    """The types of the inputs of convolutions and products of matrices, and their precision."""
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir

    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse((folder / "network-8.stablehlo").read_bytes())
        if precision != "float32":
            xla_program._shorten_products(module, precision)
        found = []

        def note(operation):
            if operation.name in xla_program._PRODUCTS:
                types = {str(ir.RankedTensorType(o.type).element_type) for o in operation.operands}
                how = str(operation.attributes["precision_config"]).count("HIGHEST")
                found.append((*types, how))
            return ir.WalkResult.ADVANCE

        module.operation.walk(note)
        assert module.operation.verify()
        # One kind of device may have what another lacks.
        assert "custom_call" not in str(module)
    return set(found)


def test_products_take_the_type_that_was_asked_for_and_float32_is_not_tf32(lite):
    assert products(lite, "float32") == {("f32", 2)}
    assert products(lite, "float16") == {("f16", 0)}
    # Depthwise convolutions stay.
    assert products(lite, "bfloat16") == {("bf16", 0), ("f32", 2)}


def test_a_program_is_compiled_once_a_machine(small, own_engines, monkeypatch, caplog):
    from jax._src import compiler

    load_engine(EngineConfig(str(small[1]), "xla"))
    unload_engines()
    folder = keep_programs(jax.local_devices()[0])
    kept = {path: path.read_bytes() for path in folder.glob("*-cache")}
    assert kept
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "backend_compile_and_load", None)
        load_engine(EngineConfig(str(small[1]), "xla"))
    unload_engines()
    for path in kept:
        path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        load_engine(EngineConfig(str(small[1]), "xla"))
    for path, data in kept.items():
        path.write_bytes(data)


def test_the_fastest_batch_size_is_measured_once_a_machine(small, monkeypatch):
    """On a CPU it is not measured, so the test asks for it."""
    engine = load_engine(EngineConfig(str(small[1]), "xla"))
    started = []

    def start(pixels, size):
        started.append(size)
        if size > 64:
            raise engine._jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return []

    monkeypatch.setattr(engine, "_start", start)
    assert engine._fastest() in (32, 64)
    assert {32, 64} <= set(started) <= {32, 64, 128}
    note = engine._folder / f"batch-{engine._key()}.json"
    note.write_text("128")
    assert engine._fastest() == 128
    for damaged in ("17", "", "[]", "{"):
        note.write_text(damaged)
        assert engine._fastest() in (32, 64)


def test_selfcheck_and_trace_take_it(folder, capsys):
    network = ["--backbone", "MobileNetV3Small", "--weights", "random", "--input-size", "32"]
    assert main(["selfcheck", *network, "--engine", "xla"]) == 0
    assert "MobileNetV3Small on xla in float32: right" in capsys.readouterr().out
    photo = str(next(folder.iterdir()))
    assert main(["trace", photo, *network, "--engine", "xla"]) == 0
    assert "XlaEngine" in capsys.readouterr().out
