"""What the core of an export and its targets share.

A *follower* is a place that takes rows and forgets rows: a database, an index, batches to load. A
*mirror* is a folder that has some files for each part of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from pipeline.exporting.state import State
from pipeline.exporting.targets import IdKind
from transforms.parts.vectors import Vectors
from transforms.storage.settings import Stores

# Two columns of each row at a destination: they tell which version of an image it is.
NAMES = ("uri", "run_id")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a row is like at the destination."""

    id: IdKind
    # Name in the table → name at the destination; uri and run_id are among them.
    columns: Mapping[str, str]
    # The columns' types, by their names in the table.
    types: pa.Schema
    vector: str  # name of the column of the vectors
    dimension: int  # 0 for a table without rows
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The column that tells the rows at the destination from each other."""
        return self.columns["uri"] if self.id == "uri" else "id"

    @property
    def schema(self) -> pa.Schema:
        """The columns of a batch, by their names at the destination; the key is the first."""
        kind = pa.int64() if self.id == "int64" else pa.string()
        columns = [pa.field(new, self.types.field(name).type) for name, new in self.columns.items()]
        key = pa.field(self.key, kind, nullable=False)
        return pa.schema([key, *(column for column in columns if column.name != self.key)])

    def as_json(self) -> dict[str, Any]:
        """Return what has to stay the same from one call to the next."""
        return {
            "id": self.id,
            "columns": dict(self.columns),
            "vector": self.vector,
            "options": dict(self.options),
        }


@dataclass(frozen=True, slots=True)
class Job:
    """Where to export to, and what."""

    dest: str  # as the user wrote it
    stores: Stores
    name: str  # of the table
    shape: Shape
    version: int  # of the table
    rows: int  # of the table


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some rows of one part."""

    rows: pa.Table  # ``Shape.schema`` [n]
    vectors: Vectors  # float32 [n, D]

    @property
    def keys(self) -> pa.ChunkedArray:
        """The id of each row."""
        return self.rows.column(0)


class Follower(Protocol):
    """A destination that takes rows and forgets rows."""

    # Whether a call that is killed leaves what was there before, to all who ask.
    atomic: bool
    # Whether it takes rows in addition to those that it has. Otherwise it gets all of them anew.
    adds: bool

    def read_state(self) -> State | None:
        """Return what the destination says that it holds; None when it says nothing."""

    def write_state(self, state: State) -> None:
        """Note what the destination holds, or that it is about to change."""

    def is_empty(self) -> bool:
        """Tell whether nothing is there that ``clear`` would delete."""

    def clear(self) -> None:
        """Delete all rows."""

    def stored(self) -> Iterator[pa.Table]:
        """Yield the uri and the run_id (NAMES) of all rows that are there."""

    def send(self, batches: Iterator[Batch]) -> None:
        """Write rows, in place of those that have the same id."""

    def remove(self, keys: Iterator[pa.Array]) -> None:
        """Delete rows, by their ids."""

    def count(self) -> int | None:
        """Return the number of rows that are there; None when it cannot be known."""

    def finish(self, state: State) -> None:
        """Make durable what was sent and removed, and note it."""

    def close(self) -> None:
        """Let go of connections."""


@runtime_checkable
class Mirror(Protocol):
    """A folder that has some files for each part of the table."""

    # The folders below the destination that hold the files.
    folders: Sequence[str]

    def stem_of(self, key: str) -> str | None:
        """Return the name of the part that a file is made of; None for other people's files."""

    def encode(self, batch: Batch, stem: str) -> Iterator[tuple[str, bytes]]:
        """Yield key and content of each file of a part."""
