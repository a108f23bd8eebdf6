"""A traced function as a GraphDef without variables, cut down to what its outputs need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_EFFECTS = {
    "Assert", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "NoOp",
}  # fmt: skip


def frozen_graph(function: Any) -> Any:
    """Return the graph of a ``ConcreteFunction`` with constants for variables and inlined calls.

    ``convert_variables_to_constants_v2`` does the same and then builds a function of the result,
    which is of no use here and costs twice as much again (InceptionResNetV2: 13.6 s instead of
    4.9). Hence its inner half, which is private: setup.py pins TensorFlow. Loops stay functions: as
    nodes they cannot be part of another function.
    """
    from tensorflow.python.framework import convert_to_constants as tool

    data = tool._FunctionConverterDataInEager(
        func=function, lower_control_flow=False, aggressive_inlining=False
    )
    graph, _ = tool._replace_variables_by_constants(converter_data=data)
    return graph


def without_effects(graph: Any) -> Any:
    """Drop dependencies on nodes without output: assignments to variables, and checks.

    Changes ``graph``.
    """
    effects = {node.name for node in graph.node if node.op in _EFFECTS}
    for node in graph.node:
        kept = [name for name in node.input if not name.startswith("^") or name[1:] not in effects]
        del node.input[:]
        node.input.extend(kept)
    return graph


def tell_of_functions(graph: Any) -> None:
    """Register a GraphDef's functions; importing it registers only those that its nodes call."""
    from tensorflow.python.eager import context

    known = context.context()
    for function in graph.library.function:
        if not known.has_function(function.signature.name):
            known.add_function_def(function)


def cut(graph: Any, names: Sequence[str]) -> Any:
    """Keep the nodes that ``names`` need, without devices: workers have others than the driver.

    Changes ``graph``.
    """
    nodes = {node.name: node for node in graph.node}
    needed, waiting = set(), list(names)
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name not in needed:
            needed.add(name)
            waiting += nodes[name].input
    kept = [node for node in graph.node if node.name in needed]
    for node in kept:
        node.device = ""
    del graph.node[:]
    graph.node.extend(kept)
    return graph
