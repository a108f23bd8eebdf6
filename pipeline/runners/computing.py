"""Say which engine, precision and cores a run uses, and refuse early what cannot work."""

from __future__ import annotations

import importlib.util
import logging

from pipeline.config import Config
from pipeline.runners.options import RunnerOptions
from transforms.backbones import Resolved
from transforms.choices import EngineName
from transforms.engines import choose_engine
from transforms.engines.base import available_cores, has_accelerator, has_gpu
from transforms.engines.choose import no_accelerator
from transforms.engines.processor import is_native
from transforms.errors import RunFailed, UserError
from transforms.extras import install_command

_LOG = logging.getLogger(__name__)


def check_engine(config: Config, runner: RunnerOptions) -> None:
    """Check that the engine can work, where the workers are on this machine.

    Args:
        config: The options of the run.
        runner: The options of Beam.

    Raises:
        UserError: The engine is not installed, or has no such precision here.
        RunFailed: There is no accelerator, and one is required.
    """
    if not runner.works_here:
        return
    check_accelerator(config)
    engine = choose_engine(config.engine)
    if engine == "tensorflow" and config.precision == "float16" and not has_gpu():
        raise UserError(
            "--precision float16: tensorflow computes in it only on a GPU, and this machine has "
            "none. Use --engine openvino, or --precision bfloat16 or float32"
        )


def check_accelerator(config: Config) -> None:
    """Check that this machine has an accelerator, if one is required.

    Raises:
        RunFailed: It has none.
    """
    if config.require_accelerator and not has_accelerator():
        raise RunFailed(no_accelerator())


def may_use_xla(config: Config, network: Resolved, runner: RunnerOptions) -> bool:
    """Tell whether workers may run a network with XLA, so that the driver has to lower it.

    The workers of a cluster are not seen from here. ``auto`` may take XLA there if the run asks for
    an accelerator; all other runs are spared the time and the files.
    """
    if config.engine != "auto" or "xla" not in network.engines:
        return config.engine == "xla"
    if config.accelerator or config.require_accelerator:
        return True
    return runner.works_here and choose_engine("auto") == "xla"


def check_network(asked: EngineName, network: Resolved) -> None:
    """Check that an engine can run a network.

    Raises:
        UserError: It cannot.
    """
    if asked not in ("auto", *network.engines):
        raise UserError(
            f"--engine {asked}: {network.name} is an ONNX file, which only "
            f"{' and '.join(network.engines)} runs here; leave the option out"
        )


def engine_of(asked: EngineName, network: Resolved) -> EngineName:
    """Return the engine that runs a network on this machine.

    Raises:
        UserError: The one that is asked for cannot run it, or is not installed.
    """
    check_network(asked, network)
    return network.engines[0] if len(network.engines) == 1 else choose_engine(asked)


def log_computing(config: Config, network: Resolved, runner: RunnerOptions) -> None:
    """Log the engine, the precision and the cores of a run, and why; warn of slow choices."""
    if not runner.works_here:
        _LOG.info(
            "engine: each worker chooses (--engine %s), in %s", config.engine, config.precision
        )
        return
    engine = engine_of(config.engine, network)
    _LOG.info(
        "engine: %s (%s), in %s, %s",
        engine,
        _why(config, network),
        config.precision,
        _cores_text(config, runner),
    )
    _warn_of_slow(engine, config)


def _warn_of_slow(engine: EngineName, config: Config) -> None:
    if engine == "tensorflow" and config.engine == "auto" and not has_gpu():
        _LOG.warning(
            "tensorflow on a CPU is about half as fast as openvino: %s", install_command("cpu")
        )
    if engine == "xla" and not has_accelerator():
        _LOG.warning("xla is for GPUs and TPUs: on a CPU it is many times slower than openvino")
    on_cpu = engine == "openvino" or not has_accelerator()
    if on_cpu and not is_native(config.precision):
        _LOG.warning(
            "this CPU has no instructions for %s: the run is not faster than with --precision "
            "float32",
            config.precision,
        )


def _why(config: Config, network: Resolved) -> str:
    if config.engine != "auto":
        return "--engine"
    if len(network.engines) == 1:
        unused = ", and the GPU is not used" if has_gpu() else ""
        return f"the only one that runs an ONNX file{unused}"
    if has_gpu():
        return "there is a GPU"
    if has_accelerator():
        return "there is a TPU"
    if importlib.util.find_spec("openvino") is None:
        return "openvino is not installed, and there is no GPU"
    return "it is installed, and there is no GPU"


def _cores_text(config: Config, runner: RunnerOptions) -> str:
    """Return the number of cores that each worker process uses, and why."""
    shared = runner.cores_per_worker
    cores, why = available_cores(), "all that this process may use"
    if config.cores_per_worker:
        cores, why = config.cores_per_worker, "--cores-per-worker"
    elif shared:
        cores, why = shared, f"each of {runner.local_processes} processes"
    return f"on {cores} core{'s' if cores > 1 else ''} ({why})"
