"""OpenVINO: the exported graph on a CPU, at about twice the speed of TensorFlow there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from transforms.choices import Precision
from transforms.engines.base import (
    GRAPHDEF,
    OPENVINO,
    ExportedModel,
    Images,
    Outputs,
    Pixels,
    as_batch,
)
from transforms.engines.compiled import keep, kept_file, load_kept

# Activations stay in the cache: EfficientNet-Lite0 437 images/s, at 16 379, at 64 348; ResNet50 the
# same
_BATCH = 4
_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoEngine:
    """One compiled network with a fixed batch shape; its streams share the batches of a call."""

    name = "openvino"
    formats: tuple[str, ...] = (GRAPHDEF.format, OPENVINO.format)
    accelerated = False

    def __init__(self, model: ExportedModel, precision: Precision, cores: int) -> None:
        import openvino as ov

        self.model = model
        # Where the compiled network was loaded from; None for one that was compiled now.
        self.kept: Path | None = None
        self.batch_size = _BATCH
        self._turn = threading.Lock()
        self._names = ["features"] + (["scores", "indices"] if model.top_k else [])
        self._core = ov.Core()
        self._settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_NUM_THREADS": cores,
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
        }
        self._queue = self._compile()
        self.batch_size = self._compiled_batch

    def _compile(self) -> Any:
        import openvino as ov

        file = kept_file(self._core, self.model, self._settings, self.batch_size)
        compiled = load_kept(self._core, file, self._settings) if file else None
        self.kept = file if compiled else None
        if not compiled:
            compiled = self._compile_anew()
            if file:
                keep(compiled, file)
        self._compiled_batch = compiled.input(0).shape[0]
        # Twice as many as are computed at once: the next batch waits inside OpenVINO, so no core
        # waits for Python. MobileNetV2 in bfloat16 497 → 512 images/s, two cores.
        computing = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        queue = ov.AsyncInferQueue(compiled, 2 * computing)
        queue.set_callback(
            _collect
            # No method: the queue would hold its engine, and both for ever
        )
        return queue

    def _compile_anew(self) -> Any:
        network = self._core.read_model(str(self.model.path))
        batch = network.input(0).get_partial_shape()[0]
        # Some ONNX files take a fixed number of images.
        size = self.batch_size if batch.is_dynamic else batch.get_length()
        network.reshape([size, *self.model.input_size, 3])
        return self._core.compile_model(network, "CPU", self._settings)

    def run(self, images: Images) -> Outputs:
        """Compute any number of images, in steps of ``batch_size``, several at once."""
        count, size = len(images), self.model.top_k
        columns: dict[str, Any] = {
            "features": np.empty((count, self.model.dimension), np.float32),
            "scores": np.empty((count, size), np.float32),
            "indices": np.empty((count, size), np.int32),
        }
        with self._turn:
            if self.batch_size != self._compiled_batch:  # shrunk, because memory was short
                self._queue = self._compile()
            for start in range(0, count, self.batch_size):
                batch = images[start : start + self.batch_size]
                pixels = as_batch(batch, self._compiled_batch)
                target = (pixels, {name: columns[name] for name in self._names}, start, len(batch))
                self._queue.start_async(
                    {"images:0": pixels}, target, share_inputs=True
                )  # alive as part of the target
            self._queue.wait_all()
        return Outputs(columns["features"], columns["scores"], columns["indices"])


def _collect(request: Any, target: tuple[Pixels, dict[str, Any], int, int]) -> None:
    """Copy a finished batch, without its padding, to where its images belong."""
    _, columns, start, count = target
    for name, column in columns.items():
        column[start : start + count] = request.get_tensor(f"{name}:0").data[:count]
