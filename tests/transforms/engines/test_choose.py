"""Which engine a machine takes, by its devices and by what is installed."""

import pytest

from pipeline import BackboneConfig, Config, RunFailed, UserError, extract
from pipeline.cli import main
from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from pipeline.runners.computing import may_use_xla
from pipeline.runners.options import RunnerOptions
from tests.helpers.nets import net
from transforms.backbones import resolve
from transforms.backbones.exported import exported
from transforms.backbones.stablehlo import CannotLower
from transforms.engines import EngineConfig, choose, choose_engine, load_engine
from transforms.engines.base import GRAPHDEF, OPENVINO, STABLEHLO, has_accelerator

SMALL = BackboneConfig("MobileNetV3Small", weights="random", input_size=32)
ALL = ("tensorflow", "openvino", "jax")
REQUIRED = "--require-accelerator: no GPU"


@pytest.fixture
def installed(monkeypatch):
    """Return a function that says which packages are installed."""

    def say(*names):
        monkeypatch.setattr(choose, "find_spec", lambda name: name if name in names else None)

    return say


def test_without_a_device_openvino_is_taken_if_it_is_installed(no_device, installed):
    installed(*ALL, "jax_cuda12_plugin", "libtpu")
    assert not has_accelerator()
    assert choose_engine("auto") == "openvino"
    installed("tensorflow", "jax")
    assert choose_engine("auto") == "tensorflow"


@pytest.mark.parametrize("plugin", ["jax_cuda12_plugin", "jax_cuda13_plugin"])
def test_beside_a_gpu_xla_is_taken_if_jax_is_installed_for_it(plugin, gpu, installed):
    installed(*ALL, plugin)
    assert choose_engine("auto") == "xla"
    assert choose_engine("auto", GRAPHDEF) == "tensorflow"
    assert choose_engine("auto", OPENVINO) == "openvino"
    # JAX alone would compute on the CPU.
    installed(*ALL, "libtpu")
    assert choose_engine("auto") == "tensorflow"
    assert choose_engine("auto", STABLEHLO) == "xla"


def test_beside_a_tpu_xla_is_taken_if_jax_is_installed_for_it(tpu, installed):
    assert has_accelerator()
    installed(*ALL, "libtpu")
    assert choose_engine("auto") == "xla"
    installed(*ALL, "jax_cuda12_plugin")
    assert choose_engine("auto") == "openvino"


@pytest.mark.parametrize(
    ("engine", "package"), [("openvino", "openvino"), ("xla", "jax"), ("tensorflow", "tensorflow")]
)
def test_an_engine_that_is_not_installed_is_refused_with_what_to_install(
    engine, package, installed
):
    installed()
    with pytest.raises(UserError, match=rf"{package} is not installed\. pip install '{package}"):
        choose_engine(engine)


def lowers(*words):
    """Whether the driver lowers the network for a command line."""
    arguments = parse(["extract", "--input", "x", "--output", "y", *words])
    config = config_of(arguments)
    return may_use_xla(config, resolve(SMALL), RunnerOptions.parse(config.beam_args))


def test_the_driver_lowers_the_network_only_where_workers_may_take_xla(no_device):
    far = ("--runner=PortableRunner", "--job_endpoint=host:1")
    assert not lowers()
    assert not lowers(*far)
    assert lowers(*far, "--accelerator", "type:nvidia-l4")
    assert lowers(*far, "--require-accelerator")
    assert lowers("--engine", "xla")
    assert not lowers(*far, "--accelerator", "type:nvidia-l4", "--engine", "tensorflow")


def test_the_driver_lowers_the_network_for_its_own_gpu(gpu, installed):
    installed(*ALL)
    assert not lowers()
    installed(*ALL, "jax_cuda12_plugin")
    assert lowers()


@pytest.mark.parametrize("command", ["extract", "selfcheck", "trace"])
@pytest.mark.parametrize("engine", ["auto", "tensorflow", "xla"])
def test_a_required_device_that_is_not_seen_ends_the_command_with_one_line(
    command, engine, no_device, folder, tmp_path, capsys
):
    words = {
        "extract": ["--input", str(folder), "--output", str(tmp_path / "out")],
        "selfcheck": [],
        "trace": [str(next(folder.iterdir()))],
    }[command]
    assert main([command, *words, "--engine", engine, "--require-accelerator"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert REQUIRED in line
    assert not (tmp_path / "out").exists()


def test_a_worker_without_the_required_device_fails_with_that_line(
    no_device, folder, tmp_path, monkeypatch
):
    """The driver does not see what its workers have; so this one looks nowhere."""
    monkeypatch.setattr("pipeline.run.check_engine", lambda config, runner: None)
    config = Config(
        inputs=(str(folder),), output=str(tmp_path), network=SMALL, require_accelerator=True
    )
    with pytest.raises(RunFailed, match=f"{REQUIRED}.*The same command would fail again"):
        extract(config)


@pytest.mark.parametrize("engine", ["tensorflow", "xla"])
def test_a_device_that_the_engine_does_not_use_is_no_device(engine, gpu, own_engines, caplog):
    *_, folder = exported(resolve(SMALL), engine == "xla").values()
    said = f"--require-accelerator: a GPU or TPU is seen, but {engine} computes on the CPU"
    with pytest.raises(RuntimeError, match=said):
        load_engine(EngineConfig(str(folder), engine, require_accelerator=True))
    # Without the option, it is only logged.
    assert "find the GPU" in caplog.text
    assert load_engine(EngineConfig(str(folder), engine)).accelerated is False


def test_openvino_cannot_be_asked_for_with_a_device():
    with pytest.raises(UserError, match="openvino computes on a CPU, which --require-accelerator"):
        Config(inputs=("x",), output="y", engine="openvino", require_accelerator=True)


def test_a_network_that_xla_cannot_compile_is_left_to_tensorflow(
    folder, tmp_path, monkeypatch, caplog, gpu
):
    def refuse(exported, directory):
        raise CannotLower("--engine xla: XLA cannot compile this network (no Lgamma); use another")

    monkeypatch.setattr("transforms.backbones.exported.lower", refuse)
    monkeypatch.setattr("pipeline.steps.networks.may_use_xla", lambda *arguments: True)
    net().save(tmp_path / "own.keras")
    network = BackboneConfig(str(tmp_path / "own.keras"), preprocess="tf")
    config = {"inputs": (str(folder),), "network": network}
    assert extract(Config(**config, output=str(tmp_path / "out"))).embedded == 6
    assert "XLA cannot compile this network (no Lgamma): tensorflow computes it" in caplog.messages
    with pytest.raises(UserError, match="--engine xla: XLA cannot compile"):
        extract(Config(**config, output=str(tmp_path / "strict"), engine="xla"))
