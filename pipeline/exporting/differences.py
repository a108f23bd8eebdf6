"""Which rows of a table a destination lacks, and which it has too many.

Under one recipe a row never changes: another vector of the same image has another ``run_id``. So
(uri, run_id) tells a new row from one that a compaction or a rewrite has moved to another part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporting.base import NAMES
from pipeline.tables.snapshot import Snapshot

# Yields the uri and the run_id (NAMES) of rows; it may be called several times.
Names = Callable[[], Iterator[pa.Table]]
# Rows that are compared at once. Each takes 48 bytes.
AT_ONCE = 10_000_000
# Parts whose names are read at once.
_PARTS = 64


@dataclass(slots=True)
class Counts:
    """What an export did, in rows."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    def add(self, other: Counts) -> None:
        """Count in what another step did."""
        self.added += other.added
        self.changed += other.changed
        self.removed += other.removed

    @property
    def sent(self) -> int:
        """The number of rows that were written."""
        return self.added + self.changed


@dataclass(frozen=True, slots=True)
class Sides:
    """The rows to compare: all others are at the destination already, as they are."""

    table: Snapshot
    # Parts of the table. Among them are all that hold a row which the destination lacks.
    parts: Sequence[str]
    # Rows at the destination. Among them are all that the table lacks, or has in ``parts``.
    there: Names
    rows: int  # of ``there``, about; 0 for none at all

    @classmethod
    def first(cls, table: Snapshot) -> Sides:
        """Compare with an empty destination."""
        return cls(table, _paths(table), lambda: iter(()), 0)

    @classmethod
    def of_versions(cls, table: Snapshot, old: Snapshot) -> Sides:
        """Compare with a destination that holds an earlier version of the table."""
        before = {str(part["path"]): int(part["num_records"]) for part in old.parts}
        now = _paths(table)
        gone = sorted(before.keys() - set(now))
        fresh = [path for path in now if path not in before]
        return cls(table, fresh, lambda: read_names(old, gone), sum(before[path] for path in gone))

    @classmethod
    def of_rows(cls, table: Snapshot, there: Names, rows: int | None) -> Sides:
        """Compare with all rows of a destination.

        Args:
            table: The features table.
            there: The rows of the destination.
            rows: Their number; None when it is not known, which takes that of the table.
        """
        if rows is None:
            rows = sum(count for _, count in table.row_counts())

        def names() -> Iterator[pa.Table]:
            """Yield the rows; others may have written some without these columns."""
            for found in there():
                columns = [pc.fill_null(column, "") for column in found.columns]
                yield pa.table(columns, found.column_names)

        # 0 would mean that nothing has to be compared.
        return cls(table, _paths(table), names, max(1, rows))

    def differences(self) -> Iterator[Difference]:
        """Yield the difference, in as many shares as keep the memory bounded."""
        shares = max(1, math.ceil(self.rows / AT_ONCE))
        for share in range(shares):
            yield Difference(self, share, shares)


class Difference:
    """One share of a difference; the hash of an image's uri says which share it belongs to."""

    def __init__(self, sides: Sides, share: int = 0, shares: int = 1) -> None:
        self._sides = sides
        self._share = (share, shares)
        self.counts = Counts()
        self.parts: Sequence[str] = sides.parts
        self._is_first = not sides.rows
        if self._is_first:
            return
        there = [self._hashes(names) for names in sides.there()]
        self._uris = sorted_hashes([uris for uris, _ in there])
        self._rows = sorted_hashes([rows for _, rows in there])
        self.parts, self._now = self._look_at_parts()

    def fresh(self, names: pa.Table) -> np.ndarray:
        """Tell which rows the destination lacks, and count them.

        Args:
            names: NAMES [n].

        Returns:
            bool [n].
        """
        if self._is_first:
            self.counts.added += names.num_rows
            return np.ones(names.num_rows, bool)
        uris, rows = self._hashes(names, everything=True)
        mask: np.ndarray = ~is_in(rows, self._rows) & self._own(uris)
        known = int(is_in(uris[mask], self._uris).sum())
        self.counts.changed += known
        self.counts.added += int(mask.sum()) - known
        return mask

    def removed(self) -> Iterator[pa.Array]:
        """Yield the uris of rows that the table lacks, and count them."""
        for names in () if self._is_first else self._sides.there():
            uris, _ = self._hashes(names, everything=True)
            gone = ~is_in(uris, self._now) & self._own(uris)
            if gone.any():
                self.counts.removed += int(gone.sum())
                yield names["uri"].filter(pa.array(gone)).combine_chunks()

    def _look_at_parts(self) -> tuple[Sequence[str], np.ndarray]:
        """Return the parts that have rows which the destination lacks, and all uris of the parts.

        So no vector is read of a part whose rows have only moved.
        """
        fresh: set[str] = set()
        found = []
        for names in read_names(self._sides.table, self._sides.parts, [*NAMES, "__filename"]):
            uris, rows = self._hashes(names, everything=True)
            own = self._own(uris)
            found.append(uris[own])
            lacks = pa.array(own & ~is_in(rows, self._rows))
            paths = pc.unique(names["__filename"].filter(lacks)).to_pylist()
            fresh |= {str(path).rsplit("/", 1)[-1] for path in paths}
        return sorted(fresh), sorted_hashes(found)

    def _hashes(self, names: pa.Table, everything: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return hashes of (uri) and of (uri, run_id) of this share's rows, or of all: S16 [n]."""
        uris = hash_of(names["uri"])
        rows = hash_of(pc.binary_join_element_wise(names["run_id"], names["uri"], "\n"))
        own = np.ones(len(uris), bool) if everything else self._own(uris)
        return uris[own], rows[own]

    def _own(self, uris: np.ndarray) -> np.ndarray:
        share, shares = self._share
        if shares == 1:
            return np.ones(len(uris), bool)
        own: np.ndarray = uris.view("<u4")[::4] % shares == share
        return own


def read_names(
    table: Snapshot, parts: Sequence[str], columns: Sequence[str] = NAMES
) -> Iterator[pa.Table]:
    """Yield the uri and the run_id (NAMES), or other columns, of the rows of some parts.

    Raises:
        Damaged: A part cannot be read.
        StorageError: The bucket does not answer.
    """
    for start in range(0, len(parts), _PARTS):
        yield table.read(columns, parts=set(parts[start : start + _PARTS]))


def _paths(table: Snapshot) -> list[str]:
    return sorted(str(part["path"]) for part in table.parts)


def hash_of(values: pa.ChunkedArray) -> np.ndarray:
    """Return 128 bits of each string [n]: two of 10^9 rows are equal by chance once in 10^20."""
    texts = values.to_pylist()
    joined = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(joined, "S16")


def sorted_hashes(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """Return hashes in one sorted array, S16 [n]."""
    return np.sort(np.concatenate(hashes)) if hashes else np.empty(0, "S16")


def is_in(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Tell which hashes or ids are among the known ones, which are sorted: bool [n]."""
    if not len(known):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    found: np.ndarray = known[places] == values
    return found
