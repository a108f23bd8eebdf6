"""The exported graph of an ONNX file, for OpenVINO: from uint8 pixels to vectors and top-k."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.onnx_file import OnnxNetwork
from transforms.backbones.onnx_model import OnnxModel
from transforms.backbones.onnx_tensors import pool_axes
from transforms.backbones.spec import Resolved
from transforms.preprocess import ValueRange
from transforms.scratch import temporary_folder

# As in stages.py.
_EPSILON = np.float32(1e-12)
_COLORS_FIRST = np.array([0, 3, 1, 2])


def save_graph(network: OnnxNetwork, resolved: Resolved, path: Path) -> None:
    """Write the whole graph, from uint8 pixels to top-k, in OpenVINO's format.

    Changes the opened model: nothing else can be done with it afterwards.

    Args:
        network: The ONNX file, and what follows it.
        resolved: The choice.
        path: Of the .xml file. A .bin file with the weights is written beside it.
    """
    import openvino as ov
    from openvino import opset15 as op

    opened = network.opened
    axes = pool_axes(opened.vector, opened.size, resolved.config, opened.layout)
    _forget_names(opened.model)
    images = op.parameter([opened.batch or -1, *opened.size, 3], ov.Type.u8, name="images")
    pixels = _pixels(images, opened, ValueRange(resolved.preprocess))
    vector, classes = opened.vector, opened.classes
    opened.input.output(0).replace(pixels.output(0))
    outputs = {"features": _features(vector, axes, resolved.config.pool, network.unit)}
    if network.head is not None:
        scores = _of_head(network.head, outputs["features"], resolved.dimension)
        outputs["scores"], outputs["indices"] = _top(scores, "none", resolved.top_k)
    elif classes is not None and resolved.top_k:
        outputs["scores"], outputs["indices"] = _top(classes, network.due, resolved.top_k)
    images.output(0).get_tensor().set_names({"images:0"})
    results = []
    for name, tensor in outputs.items():
        tensor.get_tensor().set_names({f"{name}:0"})
        results.append(op.result(tensor, name=name))
    model = ov.Model(results, [images], "network")
    for number, operation in enumerate(model.get_ordered_ops()):
        # OpenVINO counts the operations of the process. Two drivers must write the same bytes.
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    ov.save_model(model, path, compress_to_fp16=False)


def _pixels(images: Any, opened: OnnxModel, scale: ValueRange) -> Any:
    """Return what the file takes: pixels in its value range, layout and type."""
    from openvino import opset15 as op

    steps = scale.steps
    x = op.convert(images, "f32")
    if steps.reverse:
        x = op.gather(x, np.array([2, 1, 0]), np.array(3))
    if steps.divisor != 1:
        x = op.divide(x, np.float32(steps.divisor))
    if steps.mean is not None:
        x = op.subtract(x, np.asarray(steps.mean, np.float32))
    if steps.std is not None:
        x = op.divide(x, np.asarray(steps.std, np.float32))
    if opened.layout == "nchw":
        x = op.transpose(x, _COLORS_FIRST)
    return op.convert(x, opened.input.get_element_type().get_type_name())


def _features(vector: Any, axes: tuple[int, ...], pooling: str, unit: bool) -> Any:
    """Return the vector float32 [N, D]: pooled, and with length 1 where that was asked for."""
    from openvino import opset15 as op

    x = op.convert(vector, "f32")
    if axes and pooling == "cls":
        x = op.gather(x, np.array(0), np.array(1))
    elif axes:
        pool = op.reduce_mean if pooling == "avg" else op.reduce_max
        x = pool(x, np.array(axes))
    if unit:
        squares = op.reduce_sum(op.multiply(x, x), np.array([1]), keep_dims=True)
        x = op.divide(x, op.sqrt(op.maximum(squares, _EPSILON)))
    return x.output(0)


def _of_head(head: Any, features: Any, dimension: int) -> Any:
    """Return the scores [N, classes] of a head, a ``keras.Model``, for vectors [N, D]."""
    import openvino as ov
    import tensorflow as tf

    from transforms.backbones.frozen import cut, frozen_graph

    call = tf.function(lambda vectors: head(vectors, training=False), autograph=False)
    vectors = tf.TensorSpec([None, dimension], tf.float32, "vectors")
    function = call.get_concrete_function(vectors)
    graph = cut(frozen_graph(function), [function.outputs[0].name])
    with temporary_folder() as folder:
        path = folder / "head.pb"
        path.write_bytes(graph.SerializeToString())
        model = ov.Core().read_model(path)
    _forget_names(model)
    scores = model.output(0).get_node().input_value(0)
    model.input(0).get_node().output(0).replace(features)
    return scores


def _forget_names(model: Any) -> None:
    """Take all names from a model's tensors: ours must be the only ones."""
    for operation in model.get_ordered_ops():
        for tensor in operation.outputs():
            tensor.get_tensor().set_names(set())


def _top(classes: Any, due: str, count: int) -> tuple[Any, Any]:
    """Return the highest scores float32 [N, count], descending, and their indices int32."""
    from openvino import opset15 as op

    scores = op.convert(classes, "f32")
    if due == "softmax":
        scores = op.softmax(scores, 1)
    elif due == "sigmoid":
        scores = op.sigmoid(scores)
    best = op.topk(scores, np.int32(count), 1, "max", "value", "i32", stable=True)
    return best.output(0), best.output(1)
