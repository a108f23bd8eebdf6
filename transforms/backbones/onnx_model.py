"""An ONNX file opened with OpenVINO: its image input, its vector and its classes.

OpenVINO keeps the names of an ONNX file's tensors; ``--feature-layer`` takes any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms.backbones.inspection import how_to_list
from transforms.backbones.network import choose_size, unknown_layer
from transforms.backbones.onnx_graph import (
    classifier_input,
    ends_in_probabilities,
    is_named,
    needs,
)
from transforms.backbones.onnx_tensors import described, lengths_of, name_of, source, tensors
from transforms.backbones.onnx_wire import external_files
from transforms.choices import BackboneConfig, Layout
from transforms.engines import reason
from transforms.errors import UserError
from transforms.extras import install_command
from transforms.names import printable

# Where the axis of the colors is.
_CHANNELS: dict[Layout, int] = {"nchw": 1, "nhwc": 3}
# How Hugging Face and others call an output that is a vector.
VECTORS = ("embed", "feature", "pooler", "vector", "representation")
_CLASSES = ("logit", "prob", "score", "softmax", "class", "label")
# Images a step where the file leaves it open: as many as there are golden images.
_IMAGES = 4
_TYPES = ("f32", "f16", "bf16", "u8")


@dataclass(frozen=True, slots=True)
class Shaped:
    """An OpenVINO model of known shapes, and its input."""

    path: Path
    model: Any  # openvino.Model
    input: Any  # the Parameter that takes the images
    layout: Layout  # nchw or nhwc
    size: tuple[int, int]  # height, width
    # Images a step; None for any number.
    batch: int | None


@dataclass(frozen=True, slots=True)
class OnnxModel(Shaped):
    """The same, and which of its tensors matter here."""

    vector: Any  # openvino.Output [N, D], or a map
    feature_layer: str  # its name, for the recipe
    classes: Any | None  # openvino.Output [N, classes]

    @property
    def outputs(self) -> str:
        """Its outputs, in words for an error."""
        return ", ".join(map(described, self.model.outputs))


def open_onnx(path: Path, config: BackboneConfig) -> OnnxModel:
    """Open a file, and find its input, its vector and its classes.

    Raises:
        UserError: It is damaged or of no use here, or an option is missing.
    """
    shaped = open_shaped(path, config)
    vector, name = _vector(shaped.model, path, config)
    images = shaped.batch or _IMAGES
    if vector.get_partial_shape().is_dynamic or list(vector.get_shape())[:1] != [images]:
        raise UserError(
            f"--backbone {path}: {images} images do not give {images} vectors, but "
            f"{vector.get_partial_shape()} by {printable(name)}; name another layer by "
            f"--feature-layer. All: {how_to_list(path)}"
        )
    others = needs(vector) - {shaped.input.get_friendly_name()}
    if others:
        raise UserError(
            f"--backbone {path}: its vector {name} needs another input too, "
            f"{printable(', '.join(sorted(others)))}; name a layer by --feature-layer that depends "
            f"on the image alone. All: {how_to_list(path)}"
        )
    classes = _classes(shaped.model, vector, config)
    facts = (shaped.input, shaped.layout, shaped.size, shaped.batch)
    return OnnxModel(path, shaped.model, *facts, vector, name, classes)


def open_shaped(path: Path, config: BackboneConfig) -> Shaped:
    """Open a file, and give its input one shape.

    Raises:
        UserError: It is damaged or takes no images, or an option is missing.
    """
    model = _read(path)
    entry = _image_input(model, path)
    layout = _layout(entry, path, config.layout)
    shape = lengths_of(entry.get_output_partial_shape(0))
    last_two = shape[2:] if layout == "nchw" else shape[1:3]
    size = choose_size(path.name, (shape[0], *last_two, 3), config.input_size)
    _set_shape(model, entry, (shape[0] or _IMAGES, size, layout), path)
    return Shaped(path, model, entry, layout, size, shape[0])


def _read(path: Path) -> Any:
    try:
        import openvino as ov
    except ImportError as error:
        raise UserError(
            f"--backbone {path}: an ONNX file needs openvino, which is not installed. "
            f"{install_command('cpu')}"
        ) from error
    external_files(path)
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:
        raise UserError(
            f"--backbone {path}: openvino cannot load it ({printable(reason(error))}); export the "
            "model anew, with operators of ONNX itself"
        ) from error


def _image_input(model: Any, path: Path) -> Any:
    """Return the Parameter that takes images: the only one with four axes."""
    found = [i.get_node() for i in model.inputs if i.get_partial_shape().rank.is_static]
    found = [node for node in found if len(node.get_output_partial_shape(0)) == 4]
    if len(found) == 1 and found[0].get_element_type().get_type_name() in _TYPES:
        return found[0]
    raise UserError(
        f"--backbone {path}: takes {', '.join(map(described, model.inputs)) or 'nothing'}; it must "
        "take one image [N, 3, H, W] or [N, H, W, 3] of float32, float16 or uint8"
    )


def _layout(entry: Any, path: Path, asked: Layout) -> Layout:
    lengths = lengths_of(entry.get_output_partial_shape(0))
    possible = [name for name, axis in _CHANNELS.items() if lengths[axis] in (3, None)]
    certain = [name for name in possible if lengths[_CHANNELS[name]] == 3]
    seen = f"--backbone {path}: takes {described(entry.output(0))}"
    if not possible:
        raise UserError(f"{seen}; it must take RGB images, [N, 3, H, W] or [N, H, W, 3]")
    if asked != "auto":
        if asked not in possible:
            raise UserError(f"{seen}, which is not {asked}; leave --layout out")
        return asked
    found = certain or possible
    if len(found) > 1:
        raise UserError(
            f"{seen}, which does not show the axis of the colors; say by --layout: nchw (colors "
            "first, as torch has it) or nhwc (colors last, as TensorFlow has it)"
        )
    return found[0]


def _set_shape(
    model: Any, entry: Any, wanted: tuple[int, tuple[int, int], Layout], path: Path
) -> None:
    """Give the input one shape, so that all shapes are known."""
    images, size, layout = wanted
    shape = (images, 3, *size) if layout == "nchw" else (images, *size, 3)
    try:
        model.reshape({entry.output(0): shape})
    except RuntimeError as error:
        raise UserError(
            f"--backbone {path}: does not take {images} images of {size[0]}x{size[1]} "
            f"({printable(reason(error))}); give the --input-size that it was exported for"
        ) from error


def _vector(model: Any, path: Path, config: BackboneConfig) -> tuple[Any, str]:
    """Return the tensor of the vector, and its name for the recipe."""
    if config.feature_layer:
        return _named(model, path, config.feature_layer), config.feature_layer
    outputs = list(model.outputs)
    called = [output for output in outputs if is_named(output, VECTORS)]
    if len(called) == 1:
        return source(called[0]), called[0].get_any_name()
    if len(outputs) > 1:
        raise _ask(path, "has several outputs", [(source(output), output) for output in outputs])
    only = outputs[0]
    taken = classifier_input(source(only))
    is_classifier = bool(config.labels) or is_named(only, _CLASSES) or ends_in_probabilities(only)
    if is_classifier and taken is None:
        raise UserError(
            f"--backbone {path}: has no dense layer before {described(only)}, whose input would be "
            f"the vector; name a layer by --feature-layer. All: {how_to_list(path)}"
        )
    if taken is None:
        return source(only), only.get_any_name()
    if not is_classifier:
        what = "its output may be the vector, or the scores of classes"
        raise _ask(path, what, [(source(only), only), (taken, taken)])
    return taken, f"input of {name_of(only)}"


def _ask(path: Path, what: str, choices: list[tuple[Any, Any]]) -> UserError:
    listed = "; ".join(described(named) for _, named in choices)
    return UserError(
        f"--backbone {path}: {what}; name the vector by --feature-layer: {listed}. "
        f"All: {how_to_list(path)}"
    )


def _named(model: Any, path: Path, wanted: str) -> Any:
    """Return the tensor that is called so, or the only one of the operation that is."""
    found = [tensor for tensor in tensors(model) if wanted in tensor.get_names()]
    if found:
        return found[0]
    operations = [o for o in model.get_ordered_ops() if o.get_friendly_name() == wanted]
    if len(operations) == 1 and operations[0].get_output_size() == 1:
        return operations[0].output(0)
    names = [printable(name_of(tensor)) for tensor in tensors(model)]
    raise unknown_layer(wanted, names, how_to_list(path))


def _classes(model: Any, vector: Any, config: BackboneConfig) -> Any | None:
    """Return the one other output [N, classes] that holds scores of classes."""
    found = []
    for output in model.outputs:
        shape = lengths_of(output.get_partial_shape())
        likely = config.labels or is_named(output, _CLASSES) or ends_in_probabilities(output)
        if len(shape) == 2 and shape[1] and likely and source(output) != vector:
            found.append(output)
    return source(found[0]) if len(found) == 1 else None
