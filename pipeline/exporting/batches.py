"""A folder of files to load for each call: all rows first, and later what has changed.

```
DEST/export.json          which batches are whole
DEST/v000012/…            the batch that brings version 12 of the table
DEST/v000012/delete/…     the ids that it removes
DEST/rows/…               which rows each batch holds, for later calls
```

A batch is whole when the state names its version. The next call deletes one that is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job
from pipeline.exporting.differences import hash_of, is_in, sorted_hashes
from pipeline.exporting.state import State, taken_over
from transforms import parquet
from transforms.errors import UserError
from transforms.storage import Storage, open_storage

# A file has about this many bytes: some 12,000 vectors of 1280.
_FILE_BYTES = 64 << 20
_KEY = re.compile(
    r"(?:v(?P<version>\d{6,12})/(?:delete/)?part-\d{5,}\.[a-z]+"
    r"|rows/v(?P<rows>\d{6,12})-(?:sent|removed)-\d{5,}\.parquet)"
)


class Format(Protocol):
    """How the files of a batch are written."""

    # Of the files of rows, and of those of ids to remove.
    ending: str
    delete_ending: str

    def encode(self, batches: list[Batch]) -> bytes:
        """Return one file of rows."""

    def encode_keys(self, keys: pa.Array) -> bytes:
        """Return one file of ids to remove."""


class Batches:
    """The folder of batches.

    Args:
        job: What to export.
        form: How the files of a batch are written.
    """

    atomic = True
    adds = True

    def __init__(self, job: Job, form: Format) -> None:
        self._job = job
        self._form = form
        self._storage: Storage = open_storage(job.dest, job.stores)
        self._files = 0
        self._until: int | None = None
        self._written: set[str] = set()

    def read_state(self) -> State | None:
        return states.read_state(self._storage)

    def write_state(self, state: State) -> None:
        if state.version is not None and state.version > self._job.version:
            raise self._used(state.version)
        states.write_state(self._storage, state)
        self._until = state.version
        if state.stage == "sending":
            self._delete(after=-1 if state.version is None else state.version)
            # Another call may have ended meanwhile, and its batch is deleted now.
            states.write_state(self._storage, state)

    def is_empty(self) -> bool:
        return next(iter(self._storage.list()), None) is None

    def clear(self) -> None:
        self._delete(after=-1)

    def stored(self) -> Iterator[pa.Table]:
        """Yield the rows that the whole batches leave, the newest batch first."""
        versions: dict[int, list[str]] = {}
        for entry in self._storage.list("rows"):
            if (found := _KEY.fullmatch(entry.key)) and int(found["rows"]) <= (self._until or 0):
                versions.setdefault(int(found["rows"]), []).append(entry.key)
        seen = sorted_hashes([])
        for version in sorted(versions, reverse=True):
            hashes = []
            for key in sorted(versions[version]):
                rows = parquet.read(self._storage.read(key))
                hashes.append(hash_of(rows["id"].cast(pa.string())))
                if "-sent-" in key:
                    yield rows.filter(pa.array(~is_in(hashes[-1], seen))).select(list(NAMES))
            seen = sorted_hashes([seen, *hashes])

    def send(self, batches: Iterator[Batch]) -> None:
        waiting: list[Batch] = []
        size = 0
        for batch in batches:
            waiting.append(batch)
            size += batch.vectors.nbytes
            if size >= _FILE_BYTES:
                self._write(waiting)
                waiting, size = [], 0
        if waiting:
            self._write(waiting)

    def remove(self, keys: Iterator[pa.Array]) -> None:
        for ids in keys:
            self._begin()
            name = f"part-{self._files:05d}.{self._form.delete_ending}"
            self._put(f"{self._folder}/delete/{name}", self._form.encode_keys(ids))
            self._note("removed", pa.table({"id": ids}))

    def close(self) -> None:
        """Nothing is held open."""

    def count(self) -> int | None:
        return None

    def finish(self, state: State) -> None:
        states.write_state(self._storage, state)
        if self._written - {entry.key for entry in self._storage.list()}:
            # Another call took over in the last moment, and has deleted this batch.
            states.write_state(self._storage, replace(state, stage="sending", version=self._until))
            raise taken_over(self._job.dest)
        # Another call, which has stopped since, may have begun another batch.
        self._delete(after=-1 if self._until is None else self._until, but=self._job.version)

    @property
    def _folder(self) -> str:
        return f"v{self._job.version:06d}"

    def _used(self, version: int) -> UserError:
        """Return the error of a batch that would take the number of an earlier one, or a lower."""
        return UserError(
            f"{self._job.dest} has batches up to version {version}, and this one would be version "
            f"{self._job.version}, as after the table was restored from a copy. A batch needs a "
            "higher number than those before: export again once the table has a later version, or "
            "give --replace to send all rows anew"
        )

    def _begin(self) -> None:
        """Check that the folder is not that of a whole batch, which may be loaded already.

        Raises:
            UserError: It is.
        """
        if self._until is not None and self._job.version <= self._until:
            raise self._used(self._until)

    def _write(self, batches: list[Batch]) -> None:
        self._begin()
        key = f"{self._folder}/part-{self._files:05d}.{self._form.ending}"
        self._put(key, self._form.encode(batches))
        columns = self._job.shape.columns
        rows = pa.concat_tables([batch.rows for batch in batches])
        names = [rows[columns[name]] for name in NAMES]
        self._note("sent", pa.table([rows[self._job.shape.key], *names], names=["id", *NAMES]))

    def _note(self, what: str, rows: pa.Table) -> None:
        key = f"rows/{self._folder}-{what}-{self._files:05d}.parquet"
        self._put(key, parquet.encode(rows))
        self._files += 1

    def _put(self, key: str, data: bytes) -> None:
        self._storage.write(key, data)
        self._written.add(key)

    def _delete(self, after: int, but: int | None = None) -> None:
        """Delete the batches of all versions after one, except that of one version."""
        for entry in list(self._storage.list()):
            found = _KEY.fullmatch(entry.key)
            version = int(found["version"] or found["rows"]) if found else after
            if version > after and version != but:
                self._storage.delete(entry.key)


def encode_lines(keys: pa.Array | pa.ChunkedArray) -> bytes:
    """Return ids as text, one a line.

    Raises:
        UserError: One holds a line break.
    """
    ids = [str(key) for key in keys.to_pylist()]
    for key in ids:
        if len(key.splitlines()) > 1:
            raise UserError(f"{key[:200]!r} holds a line break, which no id may. Give --id sha256")
    return "".join(f"{key}\n" for key in ids).encode()


def load_hint(job: Job, what: str) -> str:
    """Return a line that names the folder to load, after its verb."""
    return f"{what} {job.dest}/v{job.version:06d}"
