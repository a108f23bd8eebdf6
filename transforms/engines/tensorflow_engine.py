"""TensorFlow: the exported graph on a GPU, or on a CPU where OpenVINO is not installed."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np

from transforms.choices import Precision
from transforms.engines.base import (
    GRAPHDEF,
    ExportedModel,
    Images,
    Outputs,
    as_batch,
    available_cores,
    has_gpu,
)
from transforms.errors import UserError
from transforms.extras import install_command

_LOG = logging.getLogger(__name__)
_CPU_BATCH = (
    # EfficientNet-Lite0 on two cores 290 images/s, at 4 245, at 32 275; short runs pad less
    16
)
_GPU_BATCH = (
    # A T4 gives 98 % of its ResNet50 rate at 32; larger cards and lighter nets want more
    128
)
# grappler's automatic mixed precision, by device and precision
_REWRITES = {
    ("CPU", "bfloat16"): "auto_mixed_precision_onednn_bfloat16",
    ("GPU", "bfloat16"): "auto_mixed_precision",
    ("GPU", "float16"): "auto_mixed_precision",
}

_NOT_INSTALLED = (
    "tensorflow is not installed here, and exporting a network needs it. Run 'image-features plan' "
    "where it is installed, with the same options, and --engine xla for a GPU or TPU; it puts the "
    "network into the output. Then run 'image-features extract --planned' here"
)

# Two threads that import TensorFlow first, at the same time, find it half imported.
_IMPORTING = threading.Lock()


class TensorFlowEngine:
    """Runs the frozen graph as one function of a fixed batch shape."""

    name = "tensorflow"
    formats: tuple[str, ...] = (GRAPHDEF.format,)

    def __init__(self, model: ExportedModel, precision: Precision, cores: int) -> None:
        tf = import_tensorflow(cores)
        self.model = model
        gpu = bool(tf.config.list_physical_devices("GPU"))
        if has_gpu() and not gpu:
            _LOG.warning(
                "TensorFlow does not find the GPU of this machine and computes on the CPU: %s",
                install_command("gpu"),
            )
        self.batch_size = _GPU_BATCH if gpu else _CPU_BATCH
        self.accelerated = gpu
        self._turn = threading.Lock()
        rewrite = _REWRITES.get(("GPU" if gpu else "CPU", precision))
        if precision != "float32" and rewrite is None:
            raise ValueError(f"TensorFlow on this device does not compute in {precision}")
        tf.config.optimizer.set_experimental_options(
            {name: name == rewrite for name in set(_REWRITES.values())}
        )
        self._tf = tf
        self._function = self._load()

    def _load(self) -> Any:
        pruned = import_graph(self.model)
        # XLA gains 14-20 % on a GPU (docs/decisions/0008-batches.md); on a CPU it took 19 of 20
        # parts of Lite0's speed.
        return self._tf.function(pruned, jit_compile=True) if self.accelerated else pruned

    def run(self, images: Images) -> Outputs:
        """Compute any number of images, in steps of ``batch_size``."""
        with self._turn:
            steps = [
                self._step(images[i : i + self.batch_size])
                for i in range(0, len(images), self.batch_size)
            ]
        features, scores, indices = (np.concatenate(column) for column in zip(*steps, strict=True))
        return Outputs(features, scores, indices)

    def _step(self, images: Images) -> tuple[Any, Any, Any]:
        count = len(images)
        outputs = [
            t.numpy()[:count]
            for t in self._function(self._tf.constant(as_batch(images, self.batch_size)))
        ]
        if not self.model.top_k:
            outputs += [np.empty((count, 0), np.float32), np.empty((count, 0), np.int32)]
        return outputs[0], outputs[1], outputs[2]


def import_graph(model: ExportedModel) -> Any:
    """Return an exported graph as a function: images uint8 [N, H, W, 3] → its outputs."""
    tf = import_tensorflow()
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(model.path.read_bytes())
    return function_of(graph_def, model)


def function_of(graph_def: Any, model: ExportedModel, more_inputs: Sequence[str] = ()) -> Any:
    """Return a graph as a function: images uint8 [N, H, W, 3] → the outputs of a network.

    Args:
        graph_def: The graph, as in ``model``.
        model: The network, for the number of outputs.
        more_inputs: Names of placeholders that are inputs after the images.
    """
    tf = import_tensorflow()
    wrapped = tf.compat.v1.wrap_function(
        lambda: tf.compat.v1.import_graph_def(graph_def, name=""), []
    )

    def tensors(names: Sequence[str]) -> list[Any]:
        return [wrapped.graph.get_tensor_by_name(f"{name}:0") for name in names]

    outputs = ["features"] + (["scores", "indices"] if model.top_k else [])
    return wrapped.prune(tensors(["images", *more_inputs]), tensors(outputs))


def import_tensorflow(cores: int | None = None) -> Any:
    """Import TensorFlow quietly, with as many threads as cores and GPU memory taken as needed.

    Its threads are set once a process: by whoever imports it first.

    Raises:
        UserError: It is not installed.
    """
    if find_spec("tensorflow") is None:
        raise UserError(_NOT_INSTALLED)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its start-up notes are no news
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with _IMPORTING:
        if "tensorflow" in sys.modules:
            return sys.modules["tensorflow"]
        with _without_stderr() if not has_gpu() else nullcontext():
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(cores or available_cores())
            tf.config.threading.set_inter_op_parallelism_threads(1)
            tf.config.list_physical_devices("GPU")
        return tf


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Hold back what C++ writes to standard error: TensorFlow reports a missing GPU three times.

    That comes before its own logging is set up, so that no variable silences it. Replayed if the
    block fails.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(saved, kept.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
