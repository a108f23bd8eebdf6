"""A folder with an index of FAISS and a table of its rows.

``index-DIGEST.faiss`` holds the vectors, divided by their lengths, under int64 ids: an inner
product is the cosine, and the search is exact. ``rows-DIGEST.parquet`` says which image each id is,
in the order of the index. ``export.json`` names both. A call that has something to send writes both
files anew, from the new rows and from the old ones that stay, one block after the other.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BufferedRandom
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job
from pipeline.exporting.differences import is_in
from pipeline.exporting.faiss_layout import Layout, dimension_of
from pipeline.exporting.named_files import NamedFiles, disk_errors
from pipeline.exporting.state import State
from pipeline.indexing.ivf import faiss
from pipeline.retrieval.blocks import scale_of
from transforms.storage import Storage, open_storage

_LOG = logging.getLogger(__name__)
_ENDINGS = {"index": "faiss", "rows": "parquet"}


@dataclass(slots=True, eq=False)
class _Draft:
    """The new files."""

    index: BufferedRandom
    # They follow the codes in the index, and are kept apart until all codes are written.
    ids: BufferedRandom
    rows: pq.ParquetWriter
    count: int = 0

    @classmethod
    def start(cls, folder: Path, layout: Layout, schema: pa.Schema) -> _Draft:
        index, ids = (folder / "index").open("w+b"), (folder / "ids").open("w+b")
        # The number of rows is not known yet.
        index.write(layout.head(0))
        return cls(index, ids, pq.ParquetWriter(folder / "rows", schema, compression="zstd"))

    def add(self, codes: np.ndarray, ids: np.ndarray) -> None:
        self.index.write(codes.data)
        self.ids.write(ids.data)
        self.count += len(ids)

    def complete(self, layout: Layout) -> None:
        self.index.write(layout.tail(self.count))
        self.ids.seek(0)
        shutil.copyfileobj(self.ids, self.index)
        self.index.seek(0)
        self.index.write(layout.head(self.count))
        for file in (self.index, self.ids, self.rows):
            file.close()

    def give_up(self) -> None:
        for file in (self.index, self.ids, self.rows):
            # What could not be written before cannot be written now either.
            with suppress(OSError):
                file.close()


class FaissFile:
    """The folder.

    Args:
        job: What to export.

    Raises:
        UserError: FAISS is not installed.
    """

    atomic = True
    adds = True

    def __init__(self, job: Job) -> None:
        self._shape = job.shape
        faiss()
        self._layout: Layout
        self._storage: Storage = open_storage(job.dest, job.stores)
        self._files = NamedFiles(self._storage, _ENDINGS)
        # The keys of the old index and of its rows; none when there are no old files.
        self._keys: dict[str, str] = {}
        self._noted = 0
        self._sizes: dict[str, int] = {}
        self._old: dict[str, Path] = {}
        self._draft: _Draft | None = None
        # Ids that the old files have, and the new ones are not to copy; int64 arrays.
        self._gone: list[np.ndarray] = []

    def read_state(self) -> State | None:
        state = states.read_state(self._storage)
        if state and not self._draft:
            state = self._without_lost(state)
            self._note(state)
        return state

    def _without_lost(self, state: State) -> State:
        """Begin anew when a file is lost.

        That also happens when a call notes the old files just after another one has replaced them.
        """
        lost = self._files.lost(key for sizes in state.files.values() for key in sizes)
        if not lost:
            return state
        _LOG.warning("%s/%s is missing; all rows are sent anew", self._storage.url, lost[0])
        return replace(state, version=None, stage="clearing", files={})

    def write_state(self, state: State) -> None:
        states.write_state(self._storage, state)
        self._note(state)

    def _note(self, state: State) -> None:
        self._keys = {name: next(iter(sizes), "") for name, sizes in state.files.items()}
        self._noted = state.rows
        self._sizes = {key: size for own in state.files.values() for key, size in own.items()}

    def is_empty(self) -> bool:
        return not self._files.sizes()

    def clear(self) -> None:
        self._files.delete_all()
        self._keys = {}

    def stored(self) -> Iterator[pa.Table]:
        self._open()
        names = [self._shape.columns[name] for name in NAMES]
        for rows in self._old_rows(names):
            yield rows.rename_columns(list(NAMES))

    def send(self, batches: Iterator[Batch]) -> None:
        draft = self._open()
        for batch in batches:
            ids = batch.keys.combine_chunks().to_numpy()
            vectors = batch.vectors * scale_of(batch.vectors)[:, None]
            self._gone.append(ids)
            with disk_errors(self._files.scratch()):
                draft.add(self._layout.encode(vectors), ids)
                draft.rows.write_table(batch.rows)

    def remove(self, keys: Iterator[pa.Array]) -> None:
        self._open()
        self._gone.extend(ids.to_numpy() for ids in keys)

    def count(self) -> int | None:
        draft = self._draft
        if draft is None:
            # Whole files have what the state says, and reading them takes long.
            self._files.check(self._sizes)
            return self._noted
        return draft.count + sum(int(stay.sum()) for *_, stay in self._old_codes())

    def finish(self, state: State) -> None:
        draft = self._open()
        scratch = self._files.scratch()
        with disk_errors(scratch):
            for codes, ids, stay in self._old_codes():
                draft.add(codes[stay], ids[stay])
            gone = self._all_gone()
            for rows in self._old_rows(self._shape.schema.names):
                stay = ~is_in(rows[self._shape.key].to_numpy(), gone)
                draft.rows.write_table(rows.filter(pa.array(stay)).cast(self._shape.schema))
            draft.complete(self._layout)
        files = {name: self._files.save(scratch / name, name) for name in _ENDINGS}
        states.write_state(self._storage, replace(state, files=files))
        self._files.delete_all(but={key for sizes in files.values() for key in sizes})

    def close(self) -> None:
        if self._draft:
            self._draft.give_up()
        self._files.close()

    def _open(self) -> _Draft:
        """Get the old files, and begin the new ones."""
        if self._draft is None:
            if self._keys:
                checks = {"index": self._check_index, "rows": self._check_rows}
                for name, check in checks.items():
                    self._old[name] = self._files.fetch(self._keys.get(name, ""), check)
            else:
                self._layout = Layout.of(
                    max(1, self._shape.dimension), self._shape.options["numbers"]
                )
            scratch = self._files.scratch()
            with disk_errors(scratch):
                self._draft = _Draft.start(scratch, self._layout, self._shape.schema)
        return self._draft

    def _check_index(self, path: Path) -> None:
        # A table that has lost all rows states no dimension.
        dimension = self._shape.dimension or dimension_of(path)
        self._layout = Layout.of(dimension, self._shape.options["numbers"])
        self._layout.rows_of(path)

    def _check_rows(self, path: Path) -> None:
        with pq.ParquetFile(path) as file:
            if set(self._shape.schema.names) - set(file.schema_arrow.names):
                raise ValueError("another table")

    def _old_codes(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield codes, ids, and which of them stay."""
        gone = self._all_gone()
        if self._old:
            for codes, ids in self._layout.blocks(self._old["index"]):
                yield codes, ids, ~is_in(ids, gone)

    def _old_rows(self, columns: list[str]) -> Iterator[pa.Table]:
        if self._old:
            with pq.ParquetFile(self._old["rows"]) as file:
                for batch in file.iter_batches(columns=columns):
                    yield pa.Table.from_batches([batch]).select(columns)

    def _all_gone(self) -> np.ndarray:
        return np.sort(np.concatenate([np.empty(0, np.int64), *self._gone]))


def open_target(job: Job) -> FaissFile:
    """Return the target."""
    return FaissFile(job)


def hint(job: Job) -> str:
    """Say how to open the index."""
    return f"faiss.read_index of the file that {job.dest}/{states.FILE} names"
