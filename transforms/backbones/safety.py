"""Refuses a SavedModel that carries any operation but the pure ones, before anything of it is run.

It keeps honest mistakes and plain attacks out; it is no sandbox. Keras files have Keras' own safe mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transforms.backbones.operations import PURE, SAVER
from transforms.errors import UserError


def check_file(path: Path) -> None:
    """Raise ``UserError`` for a folder whose ``saved_model.pb`` holds any other operation, also in a function."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise UserError(f"--backbone {path}: saved_model.pb cannot be read ({error})") from error
    graphs = [meta.graph_def for meta in saved.meta_graphs]
    functions = [f for graph in graphs for f in graph.library.function]
    operations = {n.op for g in graphs for n in g.node} | {n.op for f in functions for n in f.node_def}
    _refuse(path, operations, PURE | SAVER)


def check_signature(path: Path, graph: Any) -> None:
    """Raise ``UserError`` for a serving signature (a GraphDef) with another operation, a saver's too."""
    operations = {n.op for n in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
    _refuse(path, operations, PURE)


def _refuse(path: Path, operations: Iterable[str], allowed: frozenset[str]) -> None:
    found = sorted(set(operations) - allowed)
    if found:
        raise UserError(
            f"--backbone {path}: carries operations that may run code or touch files ({', '.join(found)}). "
            "Those of arithmetic, shapes, control flow and variables are allowed. "
            "If you trust where it comes from, add --allow-code"
        )
