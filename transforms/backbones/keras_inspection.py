"""Look into a Keras file or a SavedModel for ``image-features backbones --inspect``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transforms.backbones import hub, keras_file, saved_model
from transforms.backbones.inspection import Inspection, Layer, looks_like
from transforms.backbones.keras_graph import Call, channels_last, follow
from transforms.backbones.named import builder
from transforms.backbones.network import CustomFacts, import_keras
from transforms.backbones.scores import last_operations
from transforms.backbones.signature import freeze
from transforms.backbones.spec import Backbone
from transforms.choices import BackboneConfig
from transforms.errors import UserError

_Facts = Callable[[Path, BackboneConfig], CustomFacts]


def inspect_keras(path: Path, config: BackboneConfig) -> Inspection:
    """Find the input, the outputs and the layers of a ``.keras`` or ``.h5`` file.

    Raises:
        UserError: It cannot be loaded, or carries code.
    """
    import tensorflow as tf

    model = keras_file.load(path, config.allow_code)
    entry = model.inputs[0]
    calls, _ = follow(model, entry)
    layers = [
        layer for call in calls if len(call.outputs) == 1 and (layer := _layer_of(call, calls))
    ]
    traced = tf.function(lambda pixels: tf.nest.flatten(model(pixels)), autograph=False)
    function = traced.get_concrete_function(tf.TensorSpec(entry.shape, entry.dtype))
    graph = function.graph.as_graph_def()
    gives = [(tensor.shape, last_operations(graph, tensor.name)) for tensor in function.outputs]
    return _inspection(entry.shape, gives, layers, _read(keras_file.read_facts, path, config))


def inspect_named(spec: Backbone) -> Inspection:
    """List the layers of a backbone of the table, without its weights."""
    import_keras()
    build, _ = builder(spec)
    model = build(weights=None)
    layers = [
        _layer(layer.name, type(layer).__name__, layer.output.shape) for layer in model.layers
    ]
    return Inspection(
        takes=f"pixels {_text(model.input.shape)}, in its value range {spec.mode}",
        gives=(f"{_text(model.output.shape)}: {looks_like({'Softmax'})}",),
        layers=tuple(layer for layer in layers if layer),
        vector=f"{spec.feature}, {spec.dimension} numbers",
        options=(f"--backbone {spec.name}",),
    )


def inspect_preset(path: Path, config: BackboneConfig) -> Inspection:
    """Say what a preset of KerasHub gives, and its preprocessing.

    Raises:
        UserError: It cannot be loaded.
    """
    facts = hub.read_facts(path, config)
    height, width = facts.input_size
    vector = f"{facts.feature_layer}, {facts.dimension} numbers"
    if facts.pooling:
        vector += f", pooled by {facts.pooling}"
    return Inspection(
        takes=f"pixels [N, {height}, {width}, 3], {facts.value_range}, resized by {facts.resize}",
        gives=("vectors",),
        layers=(),
        vector=vector,
        options=(
            f"--backbone {hub.PREFIX}{path}",
            *([f"--resize {facts.resize}"] if facts.resize_needed else []),
        ),
    )


def inspect_saved_model(path: Path, config: BackboneConfig) -> Inspection:
    """Find the input, the outputs and the operations of a SavedModel.

    Raises:
        UserError: It cannot be loaded, or carries code.
    """
    import_keras()
    import tensorflow as tf

    frozen = freeze(path, config)
    layers, gives = [], []
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(frozen.graph, name="")
        for operation in imported.get_operations():
            if operation.type not in ("Const", "Placeholder") and len(operation.outputs) == 1:
                layers.append(_layer(operation.name, operation.type, operation.outputs[0].shape))
        for name in frozen.all_outputs:
            last = last_operations(frozen.graph, name)
            gives.append((imported.get_tensor_by_name(name).shape, last))
    facts = _read(saved_model.read_facts, path, config)
    return _inspection(frozen.shape, gives, [layer for layer in layers if layer], facts)


def _read(read_facts: _Facts, path: Path, config: BackboneConfig) -> CustomFacts | UserError:
    try:
        return read_facts(path, config)
    except UserError as error:
        return error


def _layer(name: str, kind: str, shape: Any) -> Layer | None:
    """Describe a layer; return None for one that cannot be a vector."""
    if getattr(shape, "rank", True) is None or len(shape) not in (2, 3, 4) or not shape[-1]:
        return None
    return Layer(name, kind, _text(shape), int(shape[-1]))


def _layer_of(call: Call, calls: Sequence[Call]) -> Layer | None:
    """Describe a layer of a Keras model; return None for one that cannot be a vector."""
    layer = _layer(call.name, type(call.layer).__name__, call.outputs[0].shape)
    if layer is None:
        return None
    try:
        numbers = channels_last(call, calls).shape[-1]
    except UserError:
        return None
    return replace(layer, numbers=int(numbers)) if numbers else None


def _text(shape: Any) -> str:
    if getattr(shape, "rank", True) is None:
        return "[…]"
    return f"[{', '.join(['N', *(str(length or '?') for length in list(shape)[1:])])}]"


def _inspection(
    shape: Any,
    gives: list[tuple[Any, set[str]]],
    layers: list[Layer],
    facts: CustomFacts | UserError,
) -> Inspection:
    outputs = tuple(f"{_text(shape)}: {looks_like(last)}" for shape, last in gives)
    takes = f"pixels {_text(shape)}"
    if isinstance(facts, UserError):
        return Inspection(takes, outputs, tuple(layers), None, (str(facts),))
    options = []
    if facts.integral:
        options.append("--preprocess none, since it takes whole numbers from 0 to 255")
    elif facts.own_scaling:
        options.append(f"--preprocess none, since its own layer {facts.own_scaling} scales")
    else:
        options.append("--preprocess MODE, or --mean R,G,B --std R,G,B, as it was trained")
    if facts.classes:
        options.append(f"--labels FILE, with {facts.classes} lines")
    return Inspection(takes, outputs, tuple(layers), facts.feature_layer, tuple(options))
