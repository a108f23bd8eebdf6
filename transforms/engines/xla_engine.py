"""XLA through JAX: the network as StableHLO on a GPU or TPU, in a process without TensorFlow."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from transforms.choices import Precision
from transforms.engines.base import (
    STABLEHLO,
    ExportedModel,
    Images,
    Outputs,
    as_batch,
    has_accelerator,
)
from transforms.engines.base import STABLEHLO_BATCHES as BATCHES
from transforms.engines.xla_program import compile_program, keep_programs
from transforms.extras import install_command
from transforms.recipe import recipe_id

_LOG = logging.getLogger(__name__)
_TRIES = 3
# Smaller ones leave most of a GPU idle; they are for one that is short of memory.
_LEAST_TRIED = 32
# A larger batch must gain this much. It takes more memory, and shards end with a padded one.
_GAIN = 1.03


class XlaEngine:
    """One compiled program for each batch size that it needs; all share the weights."""

    name = "xla"
    formats: tuple[str, ...] = (STABLEHLO.format,)

    def __init__(self, model: ExportedModel, precision: Precision) -> None:
        self._jax = import_jax()
        self.model = model
        self._precision = precision
        self._device = self._jax.local_devices()[0]
        self.accelerated = self._device.platform != "cpu"
        if has_accelerator() and not self.accelerated:
            _LOG.warning(
                "JAX does not find the GPU or TPU of this machine and computes on the CPU: %s",
                install_command("xla-cuda"),
            )
        self._turn = threading.Lock()
        self._folder = keep_programs(self._device)
        with np.load(model.directory / STABLEHLO.files[-1]) as weights:
            self._weights = [
                self._jax.device_put(weights[name], self._device) for name in weights.files
            ]
        self._programs: dict[int, Any] = {}
        self.batch_size = self._fastest() if self.accelerated else min(BATCHES)
        _LOG.info("xla: %s, batches of %d", self._device.device_kind, self.batch_size)

    def run(self, images: Images) -> Outputs:
        """Compute any number of images, in steps of ``batch_size``.

        All batches are started at once: JAX copies the next one while it computes.

        Raises:
            MemoryError: The device has not enough.
        """
        with self._turn, self._memory_error():
            steps = []
            for start in range(0, len(images), self._step):
                batch = images[start : start + self._step]
                started = self._start(as_batch(batch, self._step), self._step)
                steps.append((started, len(batch)))
            columns = [[np.asarray(own)[:count] for own in outputs] for outputs, count in steps]
        features, *labels = (np.concatenate(column) for column in zip(*columns, strict=True))
        if not labels:
            count = len(features)
            labels = [np.empty((count, 0), np.float32), np.empty((count, 0), np.int32)]
        return Outputs(features, *labels)

    @property
    def _step(self) -> int:
        """The largest batch size that is exported and not above ``batch_size``."""
        return max((size for size in BATCHES if size <= self.batch_size), default=min(BATCHES))

    def _start(self, pixels: np.ndarray, size: int) -> list[Any]:
        """Start a batch, and return its outputs before they are computed.

        Nothing but this call holds the copied pixels, so the device frees them at the batch's end.
        To donate them would free nothing earlier: no output has their shape.
        """
        if size not in self._programs:
            code = (self.model.directory / STABLEHLO.files[BATCHES.index(size)]).read_bytes()
            self._programs[size] = compile_program(code, self._precision, self._device)
        copied = self._jax.device_put(pixels, self._device)
        outputs: list[Any] = self._programs[size].execute([copied, *self._weights])
        return outputs

    @contextmanager
    def _memory_error(self) -> Iterator[None]:
        try:
            yield
        except self._jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(str(error)) from error
            raise

    def _fastest(self) -> int:
        """Return the batch size with the most images per second, measured once on a machine."""
        note = self._folder / f"batch-{self._key()}.json"
        with suppress(OSError, ValueError, TypeError):
            noted = json.loads(note.read_bytes())
            if noted in BATCHES:
                return int(noted)
        best = self._measure()
        scratch = note.with_suffix(f".{os.getpid()}")
        # A machine whose disk cannot be written to measures again.
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps(best))
            scratch.replace(note)
        return best

    def _key(self) -> str:
        """Return the name of this network in this precision, in a folder of this kind of device."""
        files = [self.model.directory / name for name in ("model.json", "SHA256SUMS")]
        known = [path.read_text() for path in files if path.exists()]
        return recipe_id({"network": "".join(known), "precision": self._precision})

    def _measure(self) -> int:
        """Try larger batches while they are faster and fit into memory."""
        best, rate = min(BATCHES), 0.0
        for size in (size for size in BATCHES if size >= _LEAST_TRIED):
            pixels = np.zeros((size, *self.model.input_size, 3), np.uint8)
            try:
                with self._memory_error():
                    self._wait([self._start(pixels, size)])
                    start = time.perf_counter()
                    self._wait([self._start(pixels, size) for _ in range(_TRIES)])
            except MemoryError:
                break
            seen = _TRIES * size / (time.perf_counter() - start)
            if seen < rate * _GAIN:
                break
            best, rate = size, seen
        return best

    def _wait(self, started: list[list[Any]]) -> None:
        self._jax.block_until_ready(started)


def import_jax() -> Any:
    """Import JAX; it takes memory of the device as it needs it."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return jax
