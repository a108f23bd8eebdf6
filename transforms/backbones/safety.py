"""Refuses a SavedModel that carries any operation but the pure ones, before anything of it is run.

It keeps honest mistakes and plain attacks out; it is no sandbox. Keras files have Keras' own safe
mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transforms.backbones.operations import PURE, RESTORER, SAVER, SEEDED
from transforms.errors import UserError


def check_file(path: Path) -> None:
    """Check that ``saved_model.pb`` of a folder holds only allowed operations.

    Operations that touch files are allowed only in the saver's own part, and operations that write
    files only where it saves. Anything else in the file may run when it is loaded, with paths that
    the file chooses.

    Raises:
        UserError: The file cannot be read, holds no graph, or holds any other operation.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise UserError(
            f"--backbone {path}: saved_model.pb cannot be read ({error}); copy the folder again or "
            "save it again"
        ) from error
    if not saved.meta_graphs:
        raise UserError(
            f"--backbone {path}: saved_model.pb holds no graph; copy the folder again or save it "
            "again"
        )
    for meta in saved.meta_graphs:
        parts = _Parts(meta)
        _refuse(path, parts.operations(parts.saving), PURE | SAVER)
        _refuse(path, parts.operations(parts.restoring), PURE | RESTORER)
        _refuse(path, parts.operations(parts.others), PURE | SEEDED)


def check_signature(path: Path, graph: Any) -> None:
    """Check that a serving signature (a GraphDef) holds only pure operations.

    Raises:
        UserError: It holds any other operation.
    """
    _refuse(path, _operations(graph), PURE)


def check_random(path: Path, graph: Any) -> None:
    """Check that a GraphDef draws no random numbers: vectors would vary.

    Raises:
        UserError: It draws random numbers.
    """
    found = sorted(name for name in _operations(graph) if "Random" in name)
    if found:
        raise UserError(
            f"--backbone {path}: its outputs come of random numbers ({', '.join(found)}): Keras "
            "exports layers like RandomFlip as they are in training. Give the model as a file of "
            "model.save('model.keras'), where they do nothing, or export one without them"
        )


def _operations(graph: Any) -> set[str]:
    return {n.op for n in graph.node} | {n.op for f in graph.library.function for n in f.node_def}


class _Parts:
    """The nodes of one MetaGraphDef and its functions, by purpose; a node may have several."""

    def __init__(self, meta: Any) -> None:
        self._nodes = {node.name: node for node in meta.graph_def.node}
        self._functions = {
            function.signature.name: function for function in meta.graph_def.library.function
        }
        self.saving = self._needed([meta.saver_def.save_tensor_name])
        self.restoring = self._needed([meta.saver_def.restore_op_name])
        named = [
            info.name
            for signature in meta.signature_def.values()
            for info in signature.outputs.values()
        ]
        named += [name for found in meta.collection_def.values() for name in found.node_list.value]
        savers = [*self.saving, *self.restoring]
        left = self._nodes.keys() - {node.name for node in savers if node.name in self._nodes}
        functions = self._functions.keys() - set(self._called(savers))
        self.others = self._needed([*named, *left])
        self.others += self._bodies([*functions, *meta.object_graph_def.concrete_functions])

    @staticmethod
    def operations(nodes: Iterable[Any]) -> set[str]:
        return {node.op for node in nodes}

    def _needed(self, names: Iterable[str]) -> list[Any]:
        """Return the nodes that ``names`` depend on, and those of the functions that they call."""
        waiting, found = list(names), {}
        while waiting:
            name = waiting.pop().lstrip("^").partition(":")[0]
            if name in self._nodes and name not in found:
                found[name] = self._nodes[name]
                waiting += found[name].input
        return [*found.values(), *self._bodies(_calls(found.values()))]

    def _bodies(self, names: Iterable[str]) -> list[Any]:
        return [node for name in self._reached(names) for node in self._functions[name].node_def]

    def _called(self, nodes: Iterable[Any]) -> set[str]:
        return self._reached(_calls(nodes))

    def _reached(self, names: Iterable[str]) -> set[str]:
        """Return the functions called ``names``, and those that they call."""
        waiting, found = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name in self._functions and name not in found:
                found.add(name)
                waiting += _calls(self._functions[name].node_def)
        return found


def _calls(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the names of the functions that nodes call, whatever the attribute."""
    for node in nodes:
        for value in node.attr.values():
            yield from (
                function.name for function in (value.func, *value.list.func) if function.name
            )


def _refuse(path: Path, operations: Iterable[str], allowed: frozenset[str]) -> None:
    found = sorted(set(operations) - allowed)
    if found:
        raise UserError(
            f"--backbone {path}: carries operations that may run code or touch files "
            f"({', '.join(found)}). Those of arithmetic, shapes, control flow and variables are "
            "allowed. If you trust where it comes from, add --allow-code"
        )
