"""Walk an OpenVINO graph backwards from an output: tell a classifier from a vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid")
# Their first input's numbers, in another shape or type.
_PASSING = ("Reshape", "Squeeze", "Unsqueeze", "Identity", "Convert")


def is_named(output: Any, parts: Sequence[str]) -> bool:
    """Tell whether one of a tensor's names has one of these parts."""
    return any(part in name.lower() for name in output.get_names() for part in parts)


def last_operations(output: Any) -> set[str]:
    """Return the types of the operations that compute a tensor, without those that only pass on."""
    waiting, found = [output], set()
    while waiting:
        node = waiting.pop().get_node()
        kind = node.get_type_name()
        if kind in (*_PASSING, "Result"):
            waiting.append(node.input_value(0))
        elif kind == "Concat":
            waiting += node.input_values()
        else:
            found.add(kind)
    return found


def ends_in_probabilities(output: Any) -> bool:
    """Tell whether softmax or sigmoid is the last operation that computes a tensor."""
    return last_operations(output) <= set(PROBABILITIES)


def classifier_input(output: Any) -> Any | None:
    """Return what the dense layer takes that gives a tensor, or None if there is no such layer.

    Softmax and sigmoid, a bias and a scale may follow the dense layer.
    """
    while True:
        node = output.get_node()
        kind = node.get_type_name()
        if kind in (*_PASSING, *PROBABILITIES):
            output = node.input_value(0)
        elif kind in ("Add", "Multiply"):
            varying = [value for value in node.input_values() if not _is_constant(value)]
            if len(varying) != 1:
                return None
            output = varying[0]
        elif kind == "MatMul" and _is_constant(node.input_value(1)):
            return node.input_value(0)
        else:
            return None


def _is_constant(output: Any) -> bool:
    leaves = {node.get_type_name() for node in _above(output) if node.get_input_size() == 0}
    return leaves == {"Constant"}


def needs(output: Any) -> set[str]:
    """Return the names of the inputs of the model that a tensor depends on."""
    return {
        node.get_friendly_name() for node in _above(output) if node.get_type_name() == "Parameter"
    }


def _above(output: Any) -> list[Any]:
    """Return all operations that a tensor comes from."""
    waiting, seen = [output.get_node()], {}
    while waiting:
        node = waiting.pop()
        name = node.get_name()  # unique in its model
        if name not in seen:
            seen[name] = node
            waiting += [value.get_node() for value in node.input_values()]
    return list(seen.values())


def parameters(model: Any) -> int:
    """Count the numbers in constants of a floating-point type: the weights."""
    constants = [op for op in model.get_ordered_ops() if op.get_type_name() == "Constant"]
    return sum(
        math.prod(op.get_output_shape(0)) for op in constants if op.get_element_type().is_real()
    )
