"""Run an opened ONNX file on this machine, as it is: by onnxruntime, or by OpenVINO in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from transforms.backbones.onnx_model import OnnxModel
from transforms.backbones.onnx_wire import with_output
from transforms.errors import first_line
from transforms.names import printable

_LOG = logging.getLogger(__name__)
# float32 [N, H, W, 3] in the value range → what the vector's tensor holds for these images, before
# pooling, and the outputs [N, classes] or None.
Run = Callable[[Any], tuple[Any, Any]]
# One step: an input of the file's own shape and type → the tensors asked for.
_Step = Callable[[Any], Sequence[Any]]
_NUMPY = {"f32": np.float32, "f16": np.float16, "u8": np.uint8}


def runner(opened: OnnxModel) -> tuple[str, Run]:
    """Return the name of the program that runs a file, and a function that does it."""
    if find_spec("onnxruntime"):
        try:
            run = _in_batches(opened, _onnxruntime(opened))
            height, width = opened.size
            run(np.zeros((1, height, width, 3), np.float32))
            return "onnxruntime", run
        except Exception as error:  # onnxruntime raises many kinds
            _LOG.warning(
                "onnxruntime cannot run %s (%s); openvino itself computes its golden vectors",
                opened.path,
                printable(first_line(error)),
            )
    return "openvino in float32", _in_batches(opened, _openvino(opened))


def _onnxruntime(opened: OnnxModel) -> _Step:
    import onnxruntime

    wanted = [_name_of(tensor) for tensor in _wanted(opened)]
    encoded = opened.path.read_bytes()
    known = {output.get_any_name() for output in opened.model.outputs}
    for name in dict.fromkeys(wanted):
        if name not in known:
            encoded = with_output(encoded, name)
    options = onnxruntime.SessionOptions()
    # 3: errors alone.
    options.log_severity_level = 3
    # So that each process gets the same bits.
    options.intra_op_num_threads = 1
    # Where the weights are that are not in the file itself.
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, str(opened.path.parent.resolve()))
    session = onnxruntime.InferenceSession(encoded, options, ["CPUExecutionProvider"])
    entry = _name_of(opened.input.output(0))
    return lambda batch: session.run(wanted, {entry: batch})


def _openvino(opened: OnnxModel) -> _Step:
    import openvino as ov

    model = ov.Model(_wanted(opened), [opened.input], "golden")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(model, "CPU", settings)

    def step(batch: Any) -> Sequence[Any]:
        outputs = compiled([batch])
        return [outputs[index].copy() for index in range(len(compiled.outputs))]

    return step


def _wanted(opened: OnnxModel) -> list[Any]:
    return [opened.vector] if opened.classes is None else [opened.vector, opened.classes]


def _name_of(tensor: Any) -> str:
    """Return the name in the file; raises ``ValueError`` for a tensor of OpenVINO alone."""
    if not tensor.get_names():
        raise ValueError("the vector has no name in the file")
    return str(tensor.get_any_name())


def _in_batches(opened: OnnxModel, step: _Step) -> Run:
    """Return a function of any number of images: the file may take a fixed number of them."""
    size = opened.input.get_output_shape(0)[0]
    kind = _NUMPY[opened.input.get_element_type().get_type_name()]

    def run(pixels: Any) -> tuple[Any, Any]:
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        rows = []
        for part in parts:
            padded = np.concatenate([part, *[part[-1:]] * (size - len(part))])
            if opened.layout == "nchw":
                padded = padded.transpose(0, 3, 1, 2)
            outputs = step(np.ascontiguousarray(padded.astype(kind)))
            rows.append([output[: len(part)] for output in outputs])
        vectors, *classes = (np.concatenate(column) for column in zip(*rows, strict=True))
        return vectors, classes[0] if classes else None

    return run


def pooled(array: Any, axes: tuple[int, ...], pooling: str) -> Any:
    """Return an array [N, …] pooled over these axes to [N, D]."""
    if axes and pooling == "cls":
        return array[:, 0]
    return (np.mean if pooling == "avg" else np.max)(array, axis=axes) if axes else array


def scores_of(due: str, outputs: Any) -> Any:
    """Return the scores [N, classes] of outputs; ``due`` is what ``scores.still_due`` returned."""
    numbers = outputs.astype(np.float64)
    if due == "softmax":
        powers = np.exp(numbers - numbers.max(axis=1, keepdims=True))
        numbers = powers / powers.sum(axis=1, keepdims=True)
    elif due == "sigmoid":
        numbers = 1 / (1 + np.exp(-numbers))
    return numbers.astype(np.float32)
