"""Check that this machine or container image computes Keras' own vectors: ``selfcheck``."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.runners.computing import check_accelerator, check_network, engine_of
from pipeline.runners.version import versions
from transforms.backbones import Resolved, export, resolve
from transforms.backbones.stablehlo import lower
from transforms.choices import EngineName, Precision
from transforms.engines import EngineConfig, load_engine
from transforms.engines.base import available_cores, has_gpu
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.errors import RunFailed
from transforms.scratch import temporary_folder


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the check runs."""

    versions: str
    cores: int  # that this process may use
    gpu: bool

    def __str__(self) -> str:
        return f"{self.versions}, {self.cores} cores, {'a GPU' if self.gpu else 'no GPU'}"


@dataclass(frozen=True, slots=True)
class RightEngine:
    """An engine that computes the right vectors."""

    backbone: str
    engine: EngineName
    precision: Precision
    seconds: float  # to load the engine and to compute the golden batch

    def __str__(self) -> str:
        what = f"{self.backbone} on {self.engine} in {self.precision}"
        return f"{what}: right, after {self.seconds:.1f} s"


def selfcheck(config: Config) -> Iterator[Machine | RightEngine]:
    """Compute the golden batch with each installed engine, or with the named one.

    Args:
        config: The options; only network, engine and precision matter.

    Yields:
        The machine first, and then each engine when it is done.

    Raises:
        RunFailed: An engine fails, or its vectors are wrong. No further engine is checked.
    """
    yield Machine(versions(), available_cores(), has_gpu())
    check_accelerator(config)
    with temporary_folder() as folder:
        network = resolve(config.network)
        check_network(config.engine, network)
        if "tensorflow" in network.engines:
            import_tensorflow()
        export(network, folder)
        for engine in _engines(config, network):
            start = time.monotonic()
            with _told(engine):
                model, required = _in_its_format(folder, engine), config.require_accelerator
                load_engine(EngineConfig(model, engine, config.precision, None, required))
            took = time.monotonic() - start
            yield RightEngine(config.network.backbone, engine, config.precision, took)


def _engines(config: Config, network: Resolved) -> tuple[EngineName, ...]:
    chosen = engine_of(config.engine, network)
    if config.engine != "auto" or config.require_accelerator:
        return (chosen,)
    left_out = set() if importlib.util.find_spec("openvino") else {"openvino"}
    # On a CPU, XLA takes minutes for a light network.
    left_out |= {"xla"} - {chosen}
    return tuple(engine for engine in network.engines if engine not in left_out)


def _in_its_format(folder: Path, engine: EngineName) -> str:
    """Return the folder of an export in the format of an engine, lowered for XLA."""
    if engine != "xla":
        return str(folder)
    lowered = folder / "stablehlo"
    lowered.mkdir(exist_ok=True)
    lower(folder, lowered)
    return str(lowered)


@contextmanager
def _told(engine: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RunFailed(f"{engine}: {error}") from error
