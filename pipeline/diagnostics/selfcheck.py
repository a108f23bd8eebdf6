"""Check that this machine or container image computes Keras' own vectors: ``selfcheck``."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.runners.computing import check_network
from pipeline.runners.version import versions
from transforms.backbones import Resolved, export, resolve
from transforms.backbones.stablehlo import lower
from transforms.choices import EngineName, Precision
from transforms.engines import EngineConfig, load_engine
from transforms.engines.base import available_cores, has_gpu
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.errors import RunFailed


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
    with tempfile.TemporaryDirectory() as folder:
        network = resolve(config.network)
        check_network(config.engine, network)
        if "tensorflow" in network.engines:
            import_tensorflow()
        export(network, Path(folder))
        for engine in _engines(config.engine, network):
            start = time.monotonic()
            with _told(engine):
                load_engine(EngineConfig(_in_its_format(folder, engine), engine, config.precision))
            took = time.monotonic() - start
            yield RightEngine(config.network.backbone, engine, config.precision, took)


def _engines(asked: EngineName, network: Resolved) -> tuple[EngineName, ...]:
    if asked != "auto":
        return (asked,)
    # On a CPU, XLA takes minutes for a light network.
    left_out = {"xla"} if importlib.util.find_spec("openvino") else {"xla", "openvino"}
    return tuple(engine for engine in network.engines if engine not in left_out)


def _in_its_format(folder: str, engine: EngineName) -> str:
    """Return the folder of an export in the format of an engine, lowered for XLA."""
    if engine != "xla":
        return folder
    lowered = Path(folder, "stablehlo")
    lowered.mkdir(exist_ok=True)
    lower(Path(folder), lowered)
    return str(lowered)


@contextmanager
def _told(engine: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RunFailed(f"{engine}: {error}") from error
