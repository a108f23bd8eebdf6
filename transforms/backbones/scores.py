"""Decide what a custom model's outputs are: probabilities, or inputs of softmax or sigmoid.

Told from the operations that end the graph, and from the outputs for the golden images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transforms.backbones.golden import golden_images
from transforms.choices import BackboneConfig
from transforms.errors import UserError

_PROBABILITIES = {"Softmax", "Sigmoid"}
_LINEAR = {"MatMul", "BiasAdd", "Add", "AddV2"}
_PASSING = {
    "Identity",
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "Cast",
    "StopGradient",
}  # their first input's numbers
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def last_operations(graph: Any, tensor: str) -> set[str]:
    """Return the operations that compute ``tensor``; skip those that only pass numbers on."""
    library = {function.signature.name: function for function in graph.library.function}
    return _last({node.name: node for node in graph.node}, tensor, library, {})


def _last(
    nodes: dict[str, Any], tensor: str, library: dict[str, Any], given: dict[str, set[str]]
) -> set[str]:
    """Do the same in a function's body, whose arguments the operations ``given`` compute."""
    name, *_, index = [*tensor.split(":"), "0"] if ":" not in tensor else tensor.split(":")
    if name in given:
        return given[name]
    node = nodes[name]
    sources = [
        source for source in node.input if not source.startswith("^")
    ]  # ^: runs before, gives no numbers
    if node.op in _CALLS and node.attr["f"].func.name in library:
        function = library[node.attr["f"].func.name]
        arguments = zip(function.signature.input_arg, sources, strict=True)
        made = {
            argument.name: _last(nodes, source, library, given) for argument, source in arguments
        }
        result = function.ret[function.signature.output_arg[int(index)].name]
        return _last({inner.name: inner for inner in function.node_def}, result, library, made)
    if node.op in _PASSING:
        sources = sources[:1]
    elif node.op == "ConcatV2":
        sources = sources[:-1]  # the last one is the axis
    else:
        return {node.op}
    return set().union(*(_last(nodes, source, library, given) for source in sources))


def still_due(
    asked: BackboneConfig, last: set[str], predict: Callable[[Any], Any], size: tuple[int, int]
) -> str:
    """Return one of ``choices.Scores``: the option, else what graph and golden outputs show.

    Raises:
        UserError: They do not tell.
    """
    if asked.scores:
        return asked.scores
    if last and last <= _PROBABILITIES:
        return "none"
    rows = predict(golden_images(*size))
    several, shares = rows.shape[1] > 1, bool((rows >= 0).all() and (rows <= 1).all())
    if several and shares and bool(np.allclose(rows.sum(axis=1), 1, atol=1e-3)):
        return "none"
    if several and (not shares or last <= _LINEAR):
        return "softmax"
    seen = "from 0 to 1 that do not sum to 1" if several else "one an image"
    raise UserError(
        f"--backbone {asked.backbone}: its outputs are numbers {seen}, made by "
        f"{', '.join(sorted(last)) or 'none'}: what they are cannot be told. Say what is still to "
        "be taken of them by --scores: softmax (logits of classes that exclude each other), "
        "sigmoid (logits of independent labels, or of one) or none (they are probabilities)"
    )


def take(due: str, outputs: Any) -> Any:
    """Return the scores of a tensor [N, classes]."""
    import tensorflow as tf

    outputs = tf.cast(outputs, tf.float32)
    return {"softmax": tf.nn.softmax, "sigmoid": tf.math.sigmoid, "none": tf.identity}[due](outputs)
