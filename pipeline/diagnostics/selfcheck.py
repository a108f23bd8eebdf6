"""``image-features selfcheck``: whether this machine, or this image, computes Keras' own vectors."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Config
from pipeline.runners.version import versions
from transforms.backbones import export, resolve
from transforms.choices import EngineName
from transforms.engines import EngineConfig, load_engine
from transforms.engines.base import available_cores, has_gpu
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.errors import RunFailed


def selfcheck(config: Config) -> Iterator[str]:
    """Compute the golden batch with each engine that is installed, or with the one that is named; a line each.

    Raises ``RunFailed`` at the first one whose vectors are off.
    """
    yield f"{versions()}, {available_cores()} cores, {'a GPU' if has_gpu() else 'no GPU'}"
    with tempfile.TemporaryDirectory() as folder:
        import_tensorflow()
        export(resolve(config.network), Path(folder))
        for engine in _engines(config.engine):
            start = time.monotonic()
            with _told(engine):
                load_engine(EngineConfig(folder, engine, config.precision))
            took = time.monotonic() - start
            yield f"{config.network.backbone} on {engine} in {config.precision}: right, after {took:.1f} s"


def _engines(asked: EngineName) -> tuple[EngineName, ...]:
    if asked != "auto":
        return (asked,)
    return ("tensorflow", "openvino") if importlib.util.find_spec("openvino") else ("tensorflow",)


@contextmanager
def _told(engine: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise RunFailed(f"{engine}: {error}") from error
