"""What a run says about its engine, and what it refuses before it plans anything."""

import logging
import sys

import pytest

from pipeline import Config, UserError, extract
from pipeline.cli import main
from pipeline.runners import computing
from pipeline.runners.computing import log_computing
from pipeline.runners.options import RunnerOptions
from tests.helpers.onnx_nets import save, small_net
from transforms.backbones import resolve
from transforms.engines.base import available_cores
from transforms.engines.processor import is_native


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


def logged(caplog, *beam, **options):
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="pipeline"):
        config = Config.of(inputs=("x",), output="y", **options)
        log_computing(config, resolve(config.network), RunnerOptions.parse(beam))
    return "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "openvino"}, "pip install 'openvino"),
        ({"precision": "float16"}, "--precision float16: tensorflow computes in it only on a GPU"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_work_is_refused_before_the_plan(
    options, message, no_openvino, folder, tmp_path
):
    with pytest.raises(UserError) as raised:
        extract(Config.of(inputs=(folder,), output=tmp_path / "out", **options))
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_the_command_says_it_in_one_line(no_openvino, folder, tmp_path, capsys):
    words = ["extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    assert main([*words, "--engine", "openvino"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_log_says_what_computes_and_why(caplog):
    cores = available_cores()
    text = logged(caplog)
    assert "engine: openvino (it is installed, and there is no GPU), in float32" in text
    assert f"on {cores} cores (all that this process may use)" in text
    text = logged(caplog, engine="tensorflow", cores_per_worker=1)
    assert text == "engine: tensorflow (--engine), in float32, on 1 core (--cores-per-worker)"
    several = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    assert "(each of 2 processes)" in logged(caplog, *several)
    far = ["--runner=PortableRunner", "--job_endpoint=host:1"]
    assert logged(caplog, *far) == "engine: each worker chooses (--engine auto), in float32"


def test_an_onnx_file_is_computed_by_openvino_beside_a_gpu_too(caplog, gpu, tmp_path):
    network = {"backbone": save(small_net(), tmp_path / "net.onnx"), "preprocess": "unit"}
    why = "the only one that runs an ONNX file, and the GPU is not used"
    assert f"engine: openvino ({why})" in logged(caplog, **network)
    assert "engine: tensorflow (there is a GPU)" in logged(caplog)


def test_tensorflow_on_a_cpu_recommends_the_extra(caplog, no_openvino):
    assert "pip install 'openvino" in logged(caplog)
    # Who asks for TensorFlow needs no advice.
    assert "pip" not in logged(caplog, engine="tensorflow")


def test_a_processor_without_the_instructions_is_named(caplog, monkeypatch):
    """This processor may have them, so the test takes the text of one that has not."""
    monkeypatch.setattr(computing, "is_native", lambda word: is_native(word, OLD))
    assert "this CPU has no instructions for bfloat16" in logged(caplog, precision="bfloat16")
    assert "instructions" not in logged(caplog, precision="float32")


OLD = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512vl\n"


@pytest.mark.parametrize(
    ("precision", "cpuinfo", "native"),
    [
        ("bfloat16", OLD, False),
        ("float16", OLD, False),
        ("float32", OLD, True),
        ("bfloat16", "flags\t: fpu avx512_bf16\n", True),
        ("bfloat16", "flags\t: fpu amx_bf16 amx_fp16\n", True),
        ("bfloat16", "Features\t: fp asimd bf16\n", True),
        ("float16", "Features\t: fp asimdhp\n", True),
        # Not on Linux
        ("bfloat16", "", True),
    ],
)
def test_the_instructions_are_read_from_the_processors_description(precision, cpuinfo, native):
    assert is_native(precision, cpuinfo) is native
