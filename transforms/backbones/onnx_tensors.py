"""Tensors of an ONNX file as OpenVINO shows them: names, shapes, and which can be a vector."""

from __future__ import annotations

from typing import Any

from transforms.backbones.inspection import how_to_list
from transforms.backbones.network import pooling_of
from transforms.choices import BackboneConfig, Layout
from transforms.errors import UserError
from transforms.names import printable


def tensors(model: Any) -> list[Any]:
    """Return the named tensors that operations compute, in the order of computing."""
    ignored = ("Constant", "Parameter", "Result")
    operations = [o for o in model.get_ordered_ops() if o.get_type_name() not in ignored]
    return [t for operation in operations for t in operation.outputs() if t.get_names()]


def name_of(tensor: Any) -> str:
    """Return the first name of a tensor, or that of its operation."""
    names = sorted(tensor.get_names())
    return names[0] if names else str(tensor.get_node().get_friendly_name())


def source(output: Any) -> Any:
    """Return what a model's output gives; the model has a Result after it."""
    node = output.get_node()
    return node.input_value(0) if node.get_type_name() == "Result" else output


def lengths_of(shape: Any) -> tuple[int | None, ...]:
    """Return the lengths of all axes; None for an unknown one."""
    return tuple(None if length.is_dynamic else length.get_length() for length in shape)


def described(tensor: Any) -> str:
    """Return name, shape and type of a tensor in words; ``?`` for an unknown length."""
    lengths = tensor.get_partial_shape()
    shape = "…"
    if lengths.rank.is_static:
        shape = ", ".join(["N", *(str(length or "?") for length in lengths_of(lengths)[1:])])
    return f"{printable(name_of(tensor))} [{shape}] {tensor.get_element_type().get_type_name()}"


def pool_axes(
    tensor: Any, size: tuple[int, int], config: BackboneConfig, layout: Layout
) -> tuple[int, ...]:
    """Return the axes over which a tensor [N, …] is pooled to [N, D]; none for [N, D] itself.

    A map has the aspect ratio of the image, but for the rounding of its sides. By that [N, D, H, W]
    and [N, H, W, D] are told apart; the model's own layout decides where both have it.

    Raises:
        UserError: It is neither of these nor tokens [N, T, D], or it is not said how to pool.
    """
    shape, (height, width) = tensor.get_shape(), size
    if len(shape) in (3, 4):
        pooling_of(len(shape), config.pooling, config.feature_layer or described(tensor))
    if len(shape) in (2, 3):
        return (1,) if len(shape) == 3 else ()
    first = len(shape) == 4 and abs(shape[2] * width - shape[3] * height) <= max(size)
    last = len(shape) == 4 and abs(shape[1] * width - shape[2] * height) <= max(size)
    if first or last:
        return (2, 3) if first and (layout == "nchw" or not last) else (1, 2)
    raise UserError(
        f"--feature-layer {config.feature_layer or described(tensor)}: gives {list(shape)}; a "
        "vector needs a layer that gives [N, D], or a map [N, D, H, W] or [N, H, W, D] or "
        f"tokens [N, T, D], which are pooled. A map has the sides of the image, {height}x{width}, "
        f"divided by one number. All: {how_to_list(config.backbone)}"
    )
