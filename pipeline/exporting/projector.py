"""A folder for TensorBoard's projector: ``tensorboard --logdir DEST``.

``vectors.bytes`` holds float32 numbers, ``rows.tsv`` the columns, and ``projector_config.pbtxt``
what TensorBoard reads first. The projector draws some 100,000 points at most, in a browser.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from pipeline.exporting import state as states
from pipeline.exporting.base import Batch, Job
from pipeline.exporting.numbers import as_numbers
from pipeline.exporting.plain import plain
from pipeline.exporting.state import State
from transforms.errors import UserError
from transforms.names import printable
from transforms.storage import Storage, open_storage

MAX_ROWS = 100_000
_CONFIG = "projector_config.pbtxt"
_VECTORS = "vectors.bytes"
_ROWS = "rows.tsv"
# What the state calls the three.
_FILES = "files"


class Projector:
    """The folder, which is written anew when the table has changed.

    Args:
        job: What to export.

    Raises:
        UserError: The table has too many rows.
    """

    atomic = True
    adds = False

    def __init__(self, job: Job) -> None:
        if job.rows > MAX_ROWS:
            raise UserError(
                f"--to projector: the table has {job.rows:,} rows, and TensorBoard's projector "
                f"draws at most {MAX_ROWS:,}"
            )
        self._job = job
        self._storage: Storage = open_storage(job.dest, job.stores)
        self._vectors = io.BytesIO()
        self._lines = ["\t".join(map(_cell, job.shape.schema.names))]

    def read_state(self) -> State | None:
        state = states.read_state(self._storage)
        if state is None or state.files.get(_FILES) == self._sizes():
            return state
        # Files that were lost or cut are written anew, as those of another version.
        return replace(state, fingerprint="")

    def write_state(self, state: State) -> None:
        states.write_state(self._storage, state)

    def is_empty(self) -> bool:
        return next(iter(self._storage.list()), None) is None

    def clear(self) -> None:
        """Keep what is there until the new files take its place."""

    def stored(self) -> Iterator[pa.Table]:
        """Yield nothing: all rows are written each time."""
        return iter(())

    def send(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._vectors.write(as_numbers(batch.vectors, "float32").tobytes())
            columns = [plain(column) for column in batch.rows.columns]
            for values in zip(*columns, strict=True):
                self._lines.append("\t".join(map(_cell, values)))

    def remove(self, keys: Iterator[pa.Array]) -> None:
        for _ in keys:
            raise AssertionError("all rows are written each time")

    def close(self) -> None:
        """Nothing is held open."""

    def count(self) -> int | None:
        return len(self._lines) - 1

    def finish(self, state: State) -> None:
        # Of one column, the projector expects no header.
        lines = self._lines if len(self._job.shape.schema.names) > 1 else self._lines[1:]
        self._storage.write(_VECTORS, self._vectors.getvalue())
        self._storage.write(_ROWS, "".join(f"{line}\n" for line in lines).encode())
        self._storage.write(_CONFIG, self._config().encode())
        states.write_state(self._storage, replace(state, files={_FILES: self._sizes()}))

    def _sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file that is there, by its key."""
        ours = (_VECTORS, _ROWS, _CONFIG)
        return {entry.key: entry.size for entry in self._storage.list() if entry.key in ours}

    def _config(self) -> str:
        shape = self._job.shape
        return (
            "embeddings {\n"
            f"  tensor_name: {json.dumps(self._job.name)}\n"
            f"  metadata_path: {json.dumps(_ROWS)}\n"
            f"  tensor_path: {json.dumps(_VECTORS)}\n"
            f"  tensor_shape: {self._job.rows}\n"
            f"  tensor_shape: {shape.dimension}\n"
            "}\n"
        )


def _cell(value: object) -> str:
    """Return a value as one cell of a line: without tabs and line breaks."""
    if value is None:
        return ""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def open_target(job: Job) -> Projector:
    """Return the target."""
    return Projector(job)


def hint(job: Job) -> str:
    """Say how to look at it."""
    return f"tensorboard --logdir {job.dest}"
