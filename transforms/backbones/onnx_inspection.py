"""Look into an ONNX file for ``image-features backbones --inspect``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transforms.backbones.inspection import Inspection, Layer, looks_like
from transforms.backbones.onnx_graph import is_named, last_operations
from transforms.backbones.onnx_model import VECTORS, OnnxModel, Shaped, open_onnx, open_shaped
from transforms.backbones.onnx_tensors import described, name_of, pool_axes, tensors
from transforms.choices import BackboneConfig
from transforms.errors import UserError


def inspect(path: Path, config: BackboneConfig) -> Inspection:
    """Find the input, the outputs and the layers of a file.

    Raises:
        UserError: It is damaged or of no use here, or an option is missing.
    """
    shaped = open_shaped(path, config)
    layers = [_layer(tensor, shaped, config) for tensor in tensors(shaped.model)]
    gives = tuple(
        f"{described(output)}: {looks_like(last_operations(output), is_named(output, VECTORS))}"
        for output in shaped.model.outputs
    )
    found, missing = _found(path, config)
    return Inspection(
        takes=f"{described(shaped.input.output(0))}, as {shaped.layout}",
        gives=gives,
        layers=tuple(layer for layer in layers if layer),
        vector=found.feature_layer if found else None,
        options=_options(config, found) if found else (missing,),
    )


def _layer(tensor: Any, shaped: Shaped, config: BackboneConfig) -> Layer | None:
    """Describe a tensor; return None for one that cannot be a vector."""
    if tensor.get_partial_shape().is_dynamic or len(tensor.get_shape()) < 2:
        return None
    if len(tensor.get_shape()) == 3:
        # Any way of pooling gives as many numbers.
        config = replace(config, pooling=config.pooling or "cls")
    try:
        axes = pool_axes(tensor, shaped.size, config, shaped.layout)
    except UserError:
        return None
    lengths = tensor.get_shape()
    numbers = next(n for axis, n in enumerate(lengths) if axis and axis not in axes)
    shape = ", ".join(["N", *map(str, lengths[1:])])
    return Layer(name_of(tensor), tensor.get_node().get_type_name(), f"[{shape}]", numbers)


def _found(path: Path, config: BackboneConfig) -> tuple[OnnxModel | None, str]:
    try:
        found = open_onnx(path, config)
        pool_axes(found.vector, found.size, config, found.layout)
        return found, ""
    except UserError as error:
        return None, str(error)


def _options(config: BackboneConfig, found: OnnxModel) -> tuple[str, ...]:
    options = ["--preprocess MODE, or --mean R,G,B --std R,G,B, as the model was trained"]
    if found.input.get_element_type().is_integral():
        options = ["--preprocess none, since it takes whole numbers from 0 to 255"]
    if config.input_size:
        options.append(f"--input-size {config.input_size}")
    if config.layout != "auto":
        options.append(f"--layout {config.layout}")
    if found.classes is not None:
        options.append(f"--labels FILE, with {found.classes.get_shape()[1]} lines")
    return tuple(options)
