"""A model in an ONNX file. OpenVINO reads it by itself, so no Keras is involved.

The export is a graph of OpenVINO. The golden vectors are those of onnxruntime where that is
installed, which is another program; otherwise OpenVINO's own, computed in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.network import CustomFacts, Images, Rows
from transforms.backbones.onnx_graph import last_operations, parameters
from transforms.backbones.onnx_model import OnnxModel, open_onnx
from transforms.backbones.onnx_run import Run, pooled, runner, scores_of
from transforms.backbones.onnx_tensors import pool_axes
from transforms.backbones.onnx_wire import external_files
from transforms.backbones.scores import still_due
from transforms.backbones.spec import Resolved, file_sha256
from transforms.choices import BackboneConfig
from transforms.preprocess import ValueRange


@dataclass(frozen=True, slots=True)
class OnnxNetwork:
    """An opened ONNX file, ready for the export."""

    opened: OnnxModel
    # Which function is still to be applied to its outputs.
    due: str
    reference: Callable[[Images], Rows]
    # What computes the reference.
    program: str
    dimension: int
    parameters: int
    # What follows in the graph: vectors of length 1, and a ``keras.Model`` of them.
    unit: bool = False
    head: Any | None = None


def read_facts(path: Path, config: BackboneConfig) -> CustomFacts:
    """Open the file, and find its input size, vector and classes.

    Raises:
        UserError: It is damaged or of no use here, or an option is missing.
    """
    opened = open_onnx(path, config)
    axes = pool_axes(opened.vector, opened.size, config, opened.layout)
    lengths = list(opened.vector.get_shape())
    left = [n for axis, n in enumerate(lengths) if axis and axis not in axes]
    return CustomFacts(
        input_size=opened.size,
        feature_layer=opened.feature_layer,
        dimension=left[0],
        classes=0 if opened.classes is None else opened.classes.get_shape()[1],
        outputs=opened.outputs,
        integral=opened.input.get_element_type().is_integral(),
        layout=opened.layout,
    )


def files_sha256(path: Path) -> str:
    """Return the sha256 of the file; with weights beside it, of the hashes of all its files."""
    others = external_files(path)
    if not others:
        return file_sha256(path)
    digest = hashlib.sha256(f"{file_sha256(path)}\n".encode())
    for other in others:
        name = other.relative_to(path.parent).as_posix()
        digest.update(f"{name}\0{file_sha256(other)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def open_model(resolved: Resolved, path: Path) -> OnnxNetwork:
    """Open the file that was resolved."""
    config = resolved.config
    opened = open_onnx(path, config)
    scale = ValueRange(resolved.preprocess)
    program, run = runner(opened)
    due = _still_due(opened, run, scale, resolved)
    axes = pool_axes(opened.vector, opened.size, config, opened.layout)

    def reference(images: Images) -> Rows:
        vectors, classes = run(np.asarray(scale(images)))
        scores = None if classes is None else scores_of(due, classes)
        return pooled(vectors.astype(np.float32), axes, config.pool), scores

    return OnnxNetwork(
        opened, due, reference, program, resolved.dimension, parameters(opened.model)
    )


def _still_due(opened: OnnxModel, run: Run, scale: ValueRange, resolved: Resolved) -> str:
    if opened.classes is None or not resolved.top_k:
        return "none"

    def predict(images: Images) -> Any:
        return run(np.asarray(scale(images)))[1]

    last = last_operations(opened.classes)
    return still_due(resolved.config, last, predict, resolved.input_size)
