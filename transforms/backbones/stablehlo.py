"""Lower an exported graph to StableHLO, which XLA compiles for GPUs and TPUs without TensorFlow.

StableHLO (https://openxla.org/stablehlo) is the portable form of XLA's operations. Its shapes are
fixed, so there is a file for each batch size. The weights are inputs of the module: all sizes share
one file of them, and a device holds them once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from transforms.engines.base import STABLEHLO, STABLEHLO_BATCHES, ExportedModel, read_exported
from transforms.engines.tensorflow_engine import function_of, import_tensorflow
from transforms.errors import UserError, first_line
from transforms.recipe import recipe_id

# Of the files: an export that an earlier version lowered must not be used again.
_FORMAT = 2
# Smaller constants stay in the modules; some of them XLA must know to compile.
_LEAST_WEIGHTS = 256


class CannotLower(UserError):
    """XLA lacks an operation of a network."""


def stablehlo_id(model_id: str) -> str:
    """Return the name of the lowered export that belongs to an export."""
    return recipe_id({"model": model_id, "stablehlo": _FORMAT, "batches": str(STABLEHLO_BATCHES)})


def lower(exported: Path, directory: Path) -> None:
    """Write the network of an exported folder as StableHLO, with its golden batch and its facts.

    Imports TensorFlow.

    Args:
        exported: A folder that ``export`` wrote, with a graph of TensorFlow.
        directory: Exists. Gets a file for each of ``STABLEHLO_BATCHES``, the weights,
            ``golden.npz`` and, last, ``model.json``.

    Raises:
        CannotLower: XLA lacks an operation.
    """
    modules, weights = lowered(read_exported(exported), STABLEHLO_BATCHES)
    for name, module in zip(STABLEHLO.files, modules, strict=False):
        (directory / name).write_bytes(module)
    # As arr_0, arr_1 and so on, in the order of the inputs.
    np.savez(directory / STABLEHLO.files[-1], *weights)
    shutil.copyfile(exported / "golden.npz", directory / "golden.npz")
    facts = json.loads((exported / "model.json").read_bytes())
    facts["network"] = asdict(STABLEHLO)
    (directory / "model.json").write_bytes(json.dumps(facts, ensure_ascii=False).encode())


def lowered(model: ExportedModel, batches: Sequence[int]) -> tuple[list[bytes], list[np.ndarray]]:
    """Return a network as a module for each batch size, serialized, and its weights.

    A module's inputs are ``images`` uint8 [batch, H, W, 3] and the weights. Its outputs are those
    of the network.

    Args:
        model: A graph of TensorFlow.
        batches: Numbers of images.

    Raises:
        CannotLower: XLA lacks an operation.
    """
    tf = import_tensorflow()
    function, weights = _with_weights_as_inputs(model, tf)
    specs = [tf.TensorSpec(array.shape, tf.float32) for array in weights]
    modules = []
    for batch in batches:
        images = tf.TensorSpec([batch, *model.input_size, 3], tf.uint8)
        # A GPU of the driver would be asked what it wants; the module is for any device.
        with _full_precision(tf), tf.device("/CPU:0"):
            modules.append(_module(function, [images, *specs]))
    return modules, weights


def _with_weights_as_inputs(model: ExportedModel, tf: Any) -> tuple[Any, list[np.ndarray]]:
    """Return a network as a function of images and weights, and its weights, float32 each."""
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(model.path.read_bytes())
    weights: dict[str, np.ndarray] = {}
    for node in graph.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            values = tf.make_ndarray(node.attr["value"].tensor)
            if values.size >= _LEAST_WEIGHTS:
                weights[node.name] = values
                node.op = "Placeholder"
                node.attr["shape"].shape.CopyFrom(node.attr["value"].tensor.tensor_shape)
                del node.attr["value"]
    function = function_of(graph, model, tuple(weights))
    # AutoGraph would leave a file in TMPDIR: it deletes it at a normal exit only.
    function = tf.function(function, jit_compile=True, autograph=False)
    return function, list(weights.values())


def _module(function: Any, inputs: Sequence[Any]) -> bytes:
    try:
        compiler = function.experimental_get_compiler_ir(*inputs)
        code = compiler(stage="stablehlo_serialized")
    except Exception as error:  # TensorFlow raises many kinds
        raise CannotLower(
            f"--engine xla: XLA cannot compile this network ({first_line(error)}); use --engine "
            "tensorflow or openvino"
        ) from error
    return bytes(code)


@contextmanager
def _full_precision(tf: Any) -> Iterator[None]:
    """Ask for products in float32: NVIDIA's TF32 has the mantissa of float16."""
    experimental = tf.config.experimental
    before = experimental.tensor_float_32_execution_enabled()
    experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        experimental.enable_tensor_float_32_execution(before)
