"""Refuses a SavedModel that carries operations which run code or touch files, before anything of it is run.

It keeps honest mistakes and plain attacks out; it is no sandbox. Keras files have Keras' own safe mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transforms.errors import UserError

# Operations that run Python, touch files or talk to other machines: no network needs them.
_CODE = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "RemoteCall", "RpcCall", "RpcClient", "RpcServer")
_FILES = ("ReadFile", "WriteFile", "MatchingFiles", "Save", "SaveSlices", "Restore", "RestoreSlice", "PrintV2",
          "DumpTensor", "LMDBReader", "TextLineReader", "WholeFileReader", "TFRecordReader", "FixedLengthRecordReader",
          "SqlDataset", "GeneratorDataset", "DataServiceDataset", "TextLineDataset", "TFRecordDataset", "CSVDataset",
          "FixedLengthRecordDataset", "MatchingFilesDataset", "LMDBDataset", "SaveDataset", "LoadDataset",
          "SnapshotDataset", "DatasetToTFRecord", "CreateSummaryFileWriter", "CreateSummaryDbWriter",
          "DebugIdentity", "Print", "FileSystemSetConfiguration")  # fmt: skip
_SAVER = ("SaveV2", "RestoreV2", "MergeV2Checkpoints")  # every SavedModel has them, outside its signature


def check_file(path: Path) -> None:
    """Raise ``UserError`` for a folder whose ``saved_model.pb`` has a refused operation anywhere."""
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
    _refuse(path, operations, (*_CODE, *_FILES))


def check_signature(path: Path, graph: Any) -> None:
    """Raise ``UserError`` for a serving signature (a GraphDef) with a refused operation or a saver's."""
    _refuse(path, {node.op for node in graph.node}, (*_CODE, *_FILES, *_SAVER))


def _refuse(path: Path, operations: Iterable[str], refused: tuple[str, ...]) -> None:
    found = sorted(op for op in operations if op in refused or (op not in _SAVER and _plain(op) in refused))
    if found:
        raise UserError(
            f"--backbone {path}: carries operations that run code or touch files ({', '.join(found)}). "
            "If you trust where it comes from, add --allow-code"
        )


def _plain(operation: str) -> str:
    """``ExperimentalCSVDatasetV2`` → ``CSVDataset``: one name for all versions of an operation."""
    return operation.removeprefix("Experimental").removesuffix("V2").removesuffix("V3")
