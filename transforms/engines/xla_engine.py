"""XLA through JAX: the network as StableHLO on a GPU or TPU, in a process without TensorFlow.

JAX has no public call that compiles a module of StableHLO that another program made. ``_compile``
uses its client, in which setup.py pins JAX' version.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
from typing import Any

import numpy as np

from transforms.choices import Precision
from transforms.engines.base import STABLEHLO, ExportedModel, Images, Outputs, as_batch
from transforms.engines.base import STABLEHLO_BATCHES as BATCHES
from transforms.errors import UserError
from transforms.extras import install_command

_LOG = logging.getLogger(__name__)
_TRIES = 3


class XlaEngine:
    """One compiled program for each batch size that it needs."""

    name = "xla"
    formats: tuple[str, ...] = (STABLEHLO.format,)

    def __init__(self, model: ExportedModel, precision: Precision) -> None:
        if precision != "float32":
            raise ValueError("xla computes in float32 only")
        self._jax = import_jax()
        self.model = model
        self._device = self._jax.local_devices()[0]
        self.accelerated = self._device.platform != "cpu"
        self._turn = threading.Lock()
        self._programs: dict[int, Any] = {}
        self.batch_size = self._fastest() if self.accelerated else min(BATCHES)
        _LOG.info("xla: %s, batches of %d", self._device.device_kind, self.batch_size)

    def run(self, images: Images) -> Outputs:
        """Compute any number of images, in steps of ``batch_size``."""
        with self._turn:
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
        """Start a batch. JAX returns before it is computed, so the next one's copy overlaps it."""
        if size not in self._programs:
            self._programs[size] = self._compile(size)
        try:
            copied = self._jax.device_put(pixels, self._device)
            outputs: list[Any] = self._programs[size].execute([copied])
        except self._jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return outputs

    def _compile(self, size: int) -> Any:
        from jax._src.lib import xla_client

        name = STABLEHLO.files[BATCHES.index(size)]
        code = (self.model.directory / name).read_bytes()
        devices = xla_client.DeviceList((self._device,))
        return self._device.client.compile_and_load(code, devices)

    def _fastest(self) -> int:
        """Return the batch size with the most images per second that fits into memory."""
        rates: dict[int, float] = {}
        for size in BATCHES:
            pixels = np.zeros((size, *self.model.input_size, 3), np.uint8)
            try:
                self._wait(pixels, size)
                start = time.perf_counter()
                for _ in range(_TRIES):
                    self._wait(pixels, size)
            except MemoryError:
                break
            rates[size] = _TRIES * size / (time.perf_counter() - start)
        return max(rates, key=lambda size: rates[size], default=min(BATCHES))

    def _wait(self, pixels: np.ndarray, size: int) -> None:
        for output in self._start(pixels, size):
            output.block_until_ready()


def import_jax() -> Any:
    """Import JAX; it takes memory of the device as it needs it.

    Raises:
        UserError: JAX is not installed.
    """
    if importlib.util.find_spec("jax") is None:
        raise UserError(f"--engine xla: jax is not installed. {install_command('xla')}")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return jax
