"""Say which engine, precision and cores a run uses, and refuse early what cannot work."""

from __future__ import annotations

import importlib.util
import logging

from pipeline.config import Config
from pipeline.runners.options import RunnerOptions
from transforms.engines import choose_engine
from transforms.engines.base import available_cores, has_gpu
from transforms.engines.processor import is_native
from transforms.errors import UserError
from transforms.extras import install_command

_LOG = logging.getLogger(__name__)


def check_engine(config: Config, runner: RunnerOptions) -> None:
    """Check that the engine can work, where the workers are on this machine.

    Args:
        config: The options of the run.
        runner: The options of Beam.

    Raises:
        UserError: The engine is not installed, or has no such precision here.
    """
    if not runner.works_here:
        return
    engine = choose_engine(config.engine)
    if engine == "tensorflow" and config.precision == "float16" and not has_gpu():
        raise UserError(
            "--precision float16: tensorflow computes in it only on a GPU, and this machine has "
            "none. Use --engine openvino, or --precision bfloat16 or float32"
        )


def log_computing(config: Config, runner: RunnerOptions) -> None:
    """Log the engine, the precision and the cores of a run, and why; warn of slow choices."""
    if not runner.works_here:
        _LOG.info(
            "engine: each worker chooses (--engine %s), in %s", config.engine, config.precision
        )
        return
    engine = choose_engine(config.engine)
    _LOG.info(
        "engine: %s (%s), in %s, %s",
        engine,
        _why(config),
        config.precision,
        _cores_text(config, runner),
    )
    if engine == "tensorflow" and config.engine == "auto" and not has_gpu():
        _LOG.warning(
            "tensorflow on a CPU is about half as fast as openvino: %s", install_command("cpu")
        )
    on_cpu = engine == "openvino" or not has_gpu()
    if on_cpu and not is_native(config.precision):
        _LOG.warning(
            "this CPU has no instructions for %s: the run is not faster than with --precision "
            "float32",
            config.precision,
        )


def _why(config: Config) -> str:
    if config.engine != "auto":
        return "--engine"
    if has_gpu():
        return "there is a GPU"
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
