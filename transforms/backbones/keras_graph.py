"""Walk a Keras model layer by layer; ``base/conv`` names a layer of an inner model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transforms.errors import UserError

_BESIDES = (
    "BatchNormalization",
    "LayerNormalization",
    "Normalization",
)  # weights, and no classifier


@dataclass(frozen=True, slots=True)
class Call:
    """One layer or operation at work, or a whole model inside the model."""

    name: str
    layer: Any
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    # Whether this is a model, whose layers are calls of their own.
    whole: bool


def follow(model: Any, pixels: Any) -> tuple[list[Call], list[Any]]:
    """Run a functional model on a tensor; return every call in order, and the outputs."""
    import keras

    calls: list[Call] = []

    def through(inner: Any, tensors: Any, prefix: str) -> Any:
        def operation(layer: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                whole = _graph(layer) is not None
                if whole:
                    outputs = through(layer, args[0], f"{prefix}{layer.name}/")
                else:
                    if "training" in getattr(layer, "_call_context_args", ()):
                        kwargs["training"] = False
                    outputs = layer(*args, **kwargs)
                inputs = keras.tree.flatten((args, kwargs))
                calls.append(
                    Call(f"{prefix}{layer.name}", layer, inputs, keras.tree.flatten(outputs), whole)
                )
                return outputs

            return call

        graph = _graph(inner)
        return graph._run_through_graph(tensors, operation_fn=operation)

    return calls, keras.tree.flatten(through(model, pixels, ""))


def channels_last(call: Call, calls: Sequence[Call]) -> Any:
    """Return what a call gives; a map [N, C, H, W] as [N, H, W, C].

    Args:
        call: A call with one output.
        calls: All calls of the model.

    Raises:
        UserError: It gives a map that does not say which one it is.
    """
    import keras

    tensor, own = call.outputs[0], getattr(call.layer, "data_format", None)
    if len(tensor.shape) != 4:
        return tensor
    if own == "channels_first":
        return keras.ops.transpose(tensor, (0, 2, 3, 1))
    if own is None and "channels_first" in {
        getattr(other.layer, "data_format", None) for other in calls
    }:
        raise UserError(
            f"--feature-layer {call.name}: does not say where its channels are, and other layers "
            "of the model take them first; name a layer that gives [N, D], or a convolution"
        )
    return tensor


def _graph(layer: Any) -> Any:
    """Return the functional model that a layer is or wraps (Sequential); None for a plain layer."""
    from keras.src.models.functional import Functional

    graph = getattr(layer, "_functional", None) or layer
    return graph if isinstance(graph, Functional) and type(graph).call is Functional.call else None


def classifier_input(calls: Sequence[Call], outputs: Sequence[Any]) -> tuple[Any, str] | None:
    """Return the tensor that the last Dense layers take, and the name of one of these layers.

    All outputs come from this one tensor.

    None where something else with weights comes last, or where no tensor is all that those layers
    take.
    """
    waiting, taken = {id(tensor): tensor for tensor in outputs}, {}
    for call in reversed([call for call in calls if not call.whole]):
        if not any(id(tensor) in waiting for tensor in call.outputs):
            continue
        for tensor in call.outputs:
            waiting.pop(id(tensor), None)
        inputs = [tensor for tensor in call.inputs if hasattr(tensor, "shape")]
        waiting |= {id(tensor): tensor for tensor in inputs}
        kind = type(call.layer).__name__
        if kind == "Dense":
            taken[id(inputs[0])] = call.name
        elif not taken and getattr(call.layer, "weights", None) and kind not in _BESIDES:
            return None
        if taken and len(waiting) == 1:
            key, tensor = next(iter(waiting.items()))
            return (tensor, taken[key]) if key in taken else None
    return None
