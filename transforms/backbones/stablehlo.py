"""Lower an exported graph to StableHLO, which XLA compiles for GPUs and TPUs without TensorFlow.

StableHLO (https://openxla.org/stablehlo) is the portable form of XLA's operations. Its shapes are
fixed, so there is a file for each batch size, and each holds the weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transforms.engines.base import STABLEHLO, STABLEHLO_BATCHES, read_exported
from transforms.engines.tensorflow_engine import import_graph, import_tensorflow
from transforms.errors import UserError, first_line
from transforms.recipe import recipe_id

# Of the files: an export that an earlier version lowered must not be used again.
_FORMAT = 1


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
        directory: Exists. Gets a file for each of ``STABLEHLO_BATCHES``, ``golden.npz`` and, last,
            ``model.json``.

    Raises:
        CannotLower: XLA lacks an operation.
    """
    tf = import_tensorflow()
    model = read_exported(exported)
    function = tf.function(import_graph(model), jit_compile=True)
    for batch, name in zip(STABLEHLO_BATCHES, STABLEHLO.files, strict=True):
        images = tf.zeros([batch, *model.input_size, 3], tf.uint8)
        with _full_precision(tf):
            (directory / name).write_bytes(_lowered(function, images))
    shutil.copyfile(exported / "golden.npz", directory / "golden.npz")
    facts = json.loads((exported / "model.json").read_bytes())
    facts["network"] = asdict(STABLEHLO)
    (directory / "model.json").write_bytes(json.dumps(facts, ensure_ascii=False).encode())


def _lowered(function: Callable[..., Any], images: Any) -> bytes:
    try:
        code = function.experimental_get_compiler_ir(images)(  # type: ignore[attr-defined]
            stage="stablehlo_serialized"
        )
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
