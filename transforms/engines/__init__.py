"""Engines: what runs the exported network. Loaded once a process, and only after a self-check."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from transforms.allocator import keep_freed_memory
from transforms.choices import EngineName, Precision
from transforms.engines.base import (
    OPENVINO,
    Engine,
    ExportedModel,
    Outputs,
    available_cores,
    has_accelerator,
    read_exported,
)
from transforms.engines.choose import choose_engine, no_accelerator
from transforms.engines.models import sums_of

__all__ = ["Engine", "EngineConfig", "ExportedModel", "Outputs"]
__all__ += [
    "MIN_COSINE",
    "check_golden",
    "choose_engine",
    "load_engine",
    "read_exported",
    "reason",
    "unload_engines",
]

_LOG = logging.getLogger(__name__)

# The smallest cosine that two vectors of one image may have, by whichever engine and on whichever
# machine.
MIN_COSINE: dict[Precision, float] = {"float32": 0.99999, "bfloat16": 0.98, "float16": 0.999}
# The largest difference that two scores of a head may have, of the same image and rank.
MAX_SCORE_ERROR: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.01}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which exported model to run, with what, and how precisely."""

    # The exported folder, on this machine
    model: str
    engine: EngineName = "auto"
    precision: Precision = "float32"
    # To compute with; None: all that this process may use
    cores: int | None = None
    # Whether to fail instead of computing on a CPU
    require_accelerator: bool = False


# Engines that stay in memory, each with some 100 MB and threads of its own: more than a run has
# backbones.
_KEPT = 16
# The last one that was asked for comes last.
_loaded: OrderedDict[EngineConfig, Engine] = OrderedDict()
_loading = threading.Lock()


def load_engine(config: EngineConfig) -> Engine:
    """Return the engine of this process; load and check it at the first call.

    Equal networks share an engine, in whichever outputs they lie. It lives in the process and not
    in a DoFn, because runners call ``setup`` when and as often as they like.

    Raises:
        UserError: The engine is not installed.
        RuntimeError: It cannot load the network, computes wrong vectors, or lacks the accelerator.
    """
    if config.require_accelerator and not has_accelerator():
        raise RuntimeError(no_accelerator())
    sums = sums_of(Path(config.model))
    key = replace(config, model=sums.decode()) if sums else config
    with _loading:
        engine = _loaded.pop(key, None) or _checked(config)
        # The output that it was loaded from may be gone, and an engine may read more files later.
        engine.model = replace(engine.model, directory=Path(config.model))
        _loaded[key] = engine
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)
        return engine


def _checked(config: EngineConfig) -> Engine:
    """Load an engine and check it. A kept network that does not pass is compiled anew."""
    engine = _open(config)
    if config.require_accelerator and not engine.accelerated:
        raise RuntimeError(no_accelerator(engine.name))
    try:
        check_golden(engine, config)
    except RuntimeError:
        kept: Path | None = getattr(engine, "kept", None)
        if kept is None or not kept.exists():
            raise
        _LOG.warning("%s computes other vectors; the network is compiled anew", kept)
        # Another process may have deleted it meanwhile.
        kept.unlink(missing_ok=True)
        return _checked(config)
    return engine


def unload_engines() -> None:
    """Let go of all engines of this process."""
    with _loading:
        _loaded.clear()


def _open(config: EngineConfig) -> Engine:
    keep_freed_memory()
    model = read_exported(Path(config.model))
    cores = config.cores or available_cores()
    chosen = choose_engine(config.engine, model.network)
    if chosen == "xla":
        from transforms.engines.xla_engine import XlaEngine

        _check_format(XlaEngine.name, XlaEngine.formats, model)
        return XlaEngine(model, config.precision)
    if chosen == "openvino":
        from transforms.engines.openvino_engine import OpenVinoEngine

        try:
            _check_format(OpenVinoEngine.name, OpenVinoEngine.formats, model)
            return OpenVinoEngine(model, config.precision, cores)
        except RuntimeError as error:
            seen = f"openvino cannot load this network ({reason(error)})"
            if model.network.format == OPENVINO.format:
                raise RuntimeError(seen) from error
            if config.engine == "openvino":
                raise RuntimeError(f"{seen}. Try --engine tensorflow") from error
            _LOG.warning("%s: tensorflow computes it", seen)
    from transforms.engines.tensorflow_engine import TensorFlowEngine

    _check_format(TensorFlowEngine.name, TensorFlowEngine.formats, model)
    return TensorFlowEngine(model, config.precision, cores)


def _check_format(engine: str, formats: Sequence[str], model: ExportedModel) -> None:
    """Raise ``RuntimeError`` unless an engine reads the network's format."""
    found = model.network
    if found.format not in formats:
        known = " and ".join(formats)
        what = f"{found.file} is in the format {found.format}, and {engine} reads {known}"
        raise RuntimeError(what)


def reason(error: RuntimeError) -> str:
    """Return the line of OpenVINO's message that names operations, or else its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    return [*lines[-1:], *(line for line in lines if line.startswith("-- "))][-1].removeprefix(
        "-- "
    )


def check_golden(engine: Engine, config: EngineConfig) -> None:
    """Compare this worker's vectors of the golden batch with those of the export.

    Raises:
        RuntimeError: One is off: a worker that computes wrong vectors must stop the run.
    """
    with np.load(engine.model.directory / "golden.npz") as golden:
        images, expected = golden["images"], golden["vectors"]
        expected_scores = golden.get("scores")
    outputs = engine.run(images)
    got = outputs.features
    allowed = MIN_COSINE[config.precision]
    # A network may give only zeros for an image, which have no direction.
    zero = ~expected.any(axis=1)
    worst = float(cosine(got[~zero], expected[~zero]).min(initial=1))
    lengths = np.linalg.norm(got[~zero], axis=1) / np.linalg.norm(expected[~zero], axis=1)
    same_zeros = np.abs(got[zero]).max(initial=0) <= 0.01 * np.abs(expected).max()
    if not worst >= allowed or not np.all(np.abs(lengths - 1) < 0.1) or not same_zeros:
        raise RuntimeError(
            f"self-check failed: {engine.name} in {config.precision} computes other vectors "
            f"than {engine.model.reference} (cosine {worst:.5f}, at least {allowed} is needed) on "
            "this machine. Nothing was written. Try the other --engine, or --precision float32."
        )
    if expected_scores is not None:
        _check_scores(outputs.scores, expected_scores, engine.name, config.precision)


def _check_scores(got: np.ndarray, expected: np.ndarray, engine: str, precision: Precision) -> None:
    """Compare the scores [4, k] of a head, which was trained here, with those of Keras."""
    allowed = MAX_SCORE_ERROR[precision]
    off = float(np.abs(got - expected).max())
    if not off <= allowed:
        raise RuntimeError(
            f"self-check failed: {engine} in {precision} computes other scores of the head than "
            f"Keras (by {off:.5f}, at most {allowed} is allowed) on this machine. Nothing was "
            "written. Try the other --engine, or --precision float32."
        )


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of ``a`` [N, D] with the same row of ``b`` [N, D]: float64 [N]."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    cosines: np.ndarray = (a64 * b64).sum(1) / (
        np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    )
    return cosines
