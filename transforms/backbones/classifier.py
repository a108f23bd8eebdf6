"""Find the vector in a frozen GraphDef: the tensor that its classifier takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_SHAPES = {"Shape", "ShapeN", "Size", "Rank"}  # they pass on sizes and no numbers
_DENSE = "MatMul"
_WEIGHTED = {
    "BatchMatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
    "Conv2D",
    "Conv2DBackpropInput",
    "Conv3D",
    "DepthwiseConv2dNative",
    "Einsum",
    "PartitionedCall",
    "StatefulPartitionedCall",
    "StatelessWhile",
    "While",
}


class Walk:
    """Walks from the outputs back to the input, along tensors that depend on the input."""

    def __init__(self, graph: Any, source: str, outputs: Sequence[str]) -> None:
        self._nodes = {node.name: node for node in graph.node}
        self._source = source.partition(":")[0]
        self._outputs = [_full(name) for name in outputs]
        self._order = self._downstream()
        self._come = {node.name for node in self._order}

    def classifier_input(self) -> tuple[str, str] | None:
        """Return the tensor that the last MatMul takes, and that MatMul's name.

        All outputs come from this one tensor.

        None where something else with weights comes last, or where no tensor is all that it takes.
        """
        taken: dict[str, str] = {}
        for node, waiting in self._back():
            if node.op == _DENSE and len(self._inputs(node)) == 1:
                taken[_full(node.input[0])] = node.name
            elif not taken and node.op in _WEIGHTED | {_DENSE}:
                return None
            if taken and len(waiting) == 1:
                (tensor,) = waiting
                return (tensor, taken[tensor]) if tensor in taken else None
        return None

    def only_ways(self) -> list[str]:
        """Return the tensors that all outputs come through, last first."""
        found = [next(iter(waiting)) for _, waiting in self._back() if len(waiting) == 1]
        return [
            name
            for name in dict.fromkeys([*self._outputs[:1], *found])
            if name != f"{self._source}:0"
        ]

    def _back(self) -> Iterator[tuple[Any, set[str]]]:
        """Yield the nodes that the outputs need, last first, with the tensors needed before."""
        waiting = set(self._outputs)
        for node in reversed(self._order):
            made = {tensor for tensor in waiting if tensor.partition(":")[0] == node.name}
            if made and node.name != self._source:
                waiting = (waiting - made) | set(self._inputs(node))
                yield node, waiting

    def _inputs(self, node: Any) -> list[str]:
        """Return the inputs of a node that depend on the graph's input."""
        return [_full(name) for name in _data(node) if name.partition(":")[0] in self._come]

    def _downstream(self) -> list[Any]:
        """Return the nodes that depend on the input, in topological order."""
        # By name, in topological order: whether the node depends on the input.
        order: dict[str, bool] = {self._source: True}
        waiting = [name.partition(":")[0] for name in self._outputs]
        while waiting:
            name = waiting[-1]
            node = self._nodes[name]
            before = (
                [] if node.op in _SHAPES else [source.partition(":")[0] for source in _data(node)]
            )
            # NextIteration leads back into a loop.
            before = [name for name in before if self._nodes[name].op != "NextIteration"]
            missing = [source for source in before if source not in order]
            if name in order or not missing:
                order.setdefault(name, any(order[source] for source in before))
                waiting.pop()
            waiting += missing if name not in order else []
        return [self._nodes[name] for name, comes in order.items() if comes]


def choices(graph: Any, walk: Walk) -> str:
    """Name operations that all of the output comes through, with the length of their vectors."""
    import tensorflow as tf

    ops = {node.name: node.op for node in graph.node}
    # For each length, the operation nearest to the output.
    lengths: dict[int, str] = {}
    with tf.Graph().as_default() as imported:
        tf.graph_util.import_graph_def(graph, name="")
        for tensor in walk.only_ways():
            shape, (name, _, index) = (
                imported.get_tensor_by_name(tensor).shape,
                tensor.partition(":"),
            )
            if shape.rank in (2, 4) and shape[-1] and index == "0" and ops[name] != "Identity":
                lengths.setdefault(int(shape[-1]), name)
    found = [f"{name} ({length} numbers)" for length, name in list(lengths.items())[:5]]
    return f", such as {', '.join(found)}" if found else ""


def _data(node: Any) -> list[str]:
    return [name for name in node.input if not name.startswith("^")]


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:0"
