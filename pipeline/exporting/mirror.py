"""Keep a folder that has some files for each part of the table.

A part never changes, and neither do the files that are made of it. So a part that is there already
is skipped, also after a call that was killed, and no earlier version of the table has to be read.
Beside the files of each part, ``rows/STEM.parquet`` says which rows they hold. It is written last,
so it also says that they are whole.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.exporting.base import NAMES, Batch, Job, Mirror
from pipeline.exporting.differences import Counts, Sides
from pipeline.exporting.follow import check_call
from pipeline.exporting.rows import read_batches
from pipeline.exporting.state import State, read_state, write_state
from pipeline.tables.snapshot import Snapshot
from transforms import parquet
from transforms.errors import UserError, first_line
from transforms.storage import NotFound, Storage

_LOG = logging.getLogger(__name__)
_ROWS = "rows"
_STEM = re.compile(r"part-[A-Za-z0-9_.-]{1,200}-[0-9a-f]{12}")
# Sizes in bytes by key, for each part.
Files = Mapping[str, Mapping[str, int]]


def is_stem(name: str) -> bool:
    """Tell whether a name is that of a part, without its ending."""
    return bool(_STEM.fullmatch(name))


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """The destination of a mirror."""

    storage: Storage
    target: Mirror

    def files(self) -> dict[str, dict[str, int]]:
        """Return the files of each part that lie there, its rows included."""
        found: dict[str, dict[str, int]] = {}
        for folder in (*self.target.folders, _ROWS):
            for entry in self.storage.list(folder):
                stem = _rows_stem(entry.key) or self.target.stem_of(entry.key)
                if stem:
                    found.setdefault(stem, {})[entry.key] = entry.size
        return found

    def check_new(self) -> None:
        """Check that the folders of a new destination are empty.

        Raises:
            UserError: A reader would take other people's files for ours.
        """
        for folder in (*self.target.folders, _ROWS):
            for entry in self.storage.list(folder):
                raise UserError(
                    f"{self.storage.url}/{entry.key} was not written by an export that has ended. "
                    "Give another --dest, or delete that folder"
                )

    def names(self, stem: str) -> pa.Table:
        """Return which rows the files of a part hold (NAMES); none when that is not known."""
        try:
            return parquet.read(self.storage.read(_rows_key(stem))).select(list(NAMES))
        except (NotFound, pa.ArrowException, KeyError, OSError) as error:
            _LOG.warning(
                "%s/%s cannot be read (%s): rows that were there may be counted as added",
                self.storage.url,
                _rows_key(stem),
                first_line(error),
            )
            return pa.table({name: pa.array([], pa.string()) for name in NAMES})

    def write(self, batch: Batch, stem: str, names: pa.Table) -> None:
        """Write the files of a part, and at last which rows they hold."""
        for key, data in self.target.encode(batch, stem):
            self.storage.write(key, data)
        self.storage.write(_rows_key(stem), parquet.encode(names))

    def delete(self, files: Files) -> None:
        """Delete the files of some parts; their rows first, since they vouch for the others."""
        for stem, sizes in files.items():
            for key in sorted(sizes, key=lambda key: key != _rows_key(stem)):
                self.storage.delete(key)


def mirror(
    job: Job, table: Snapshot, folder: Folder, start: State, on_rows: Callable[[int], None]
) -> Counts:
    """Write the files of the parts that a destination lacks, and delete those of all others.

    New files come first, then the state that names all files, and then old files are deleted.

    Args:
        job: What to export.
        table: The features table.
        folder: The destination.
        start: What it holds, with the id of this call.
        on_rows: Is told the number of rows of each part, written or there already.

    Raises:
        Refused: Another call took over.
        Damaged: A part of the table cannot be read.
        StorageError: The storage does not answer.
    """
    write_state(folder.storage, start)
    there = folder.files()
    if start.stage == "clearing":
        folder.delete(there)
        start, there = replace(start, files={}, version=None), {}
    start = replace(start, stage="sending")
    write_state(folder.storage, start)
    paths = {str(part["path"]).removesuffix(".parquet"): part for part in table.parts}
    whole = {stem for stem in paths if _is_whole(stem, there, start.files)}
    on_rows(sum(int(paths[stem]["num_records"]) for stem in whole))
    for stem in sorted(paths.keys() - whole):
        check_call(read_state(folder.storage), start, job.dest)
        folder.delete({stem: there.get(stem, {})})
        _write_part(job, table, folder, stem)
        on_rows(int(paths[stem]["num_records"]))
    counts = _count(table, folder, start, list(paths))
    check_call(read_state(folder.storage), start, job.dest)
    now = folder.files()
    kept = {stem: now.get(stem, {}) for stem in sorted(paths)}
    write_state(
        folder.storage,
        replace(start, stage="done", version=table.version, rows=job.rows, files=kept),
    )
    folder.delete({stem: sizes for stem, sizes in now.items() if stem not in paths})
    return counts


def _write_part(job: Job, table: Snapshot, folder: Folder, stem: str) -> None:
    names: list[pa.Table] = []

    def choose(rows: pa.Table) -> np.ndarray:
        names.append(rows)
        return np.ones(rows.num_rows, bool)

    for batch in read_batches(table.storage, [f"{stem}.parquet"], job.shape, choose):
        folder.write(batch, stem, names[0])


def _is_whole(stem: str, there: Files, noted: Files) -> bool:
    """Tell whether the files of a part are as they were written.

    The state has their sizes, unless the call that wrote them was killed.
    """
    own = there.get(stem, {})
    return _rows_key(stem) in own and noted.get(stem, own) == own


def _count(table: Snapshot, folder: Folder, start: State, stems: list[str]) -> Counts:
    """Count what has changed since the last call that ended."""
    gone = sorted(start.files.keys() - set(stems))
    fresh = [f"{stem}.parquet" for stem in stems if stem not in start.files]
    there = [folder.names(stem) for stem in gone]
    rows = sum(names.num_rows for names in there)
    counts = Counts()
    for difference in Sides(table, fresh, lambda: iter(there), rows).differences():
        for names in _names_of(folder, fresh):
            difference.fresh(names)
        for _ in difference.removed():
            pass
        counts.add(difference.counts)
    return counts


def _names_of(folder: Folder, paths: list[str]) -> Iterator[pa.Table]:
    for path in paths:
        yield folder.names(path.removesuffix(".parquet"))


def _rows_key(stem: str) -> str:
    return f"{_ROWS}/{stem}.parquet"


def _rows_stem(key: str) -> str | None:
    place, _, name = key.partition("/")
    stem = name.removesuffix(".parquet")
    return stem if place == _ROWS and name.endswith(".parquet") and is_stem(stem) else None
