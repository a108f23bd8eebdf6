"""Describe a commit: the parts that it adds and removes, and the row counts for the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.tables.delta import count_missing, row_ids
from pipeline.tables.history import Change, Operation
from pipeline.tables.snapshot import Snapshot
from transforms.errors import Damaged
from transforms.parts.write import Part

_ROW = ("uri", "run_id")


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of a run: parts to add and parts to remove."""

    run_id: str
    add: Sequence[Part]
    remove: Sequence[str] = ()  # paths of parts
    replace_all: bool = False  # remove every part of the table
    # Type of the column "source" after the commit; None for no change.
    source: pa.DataType | None = None
    # For the history. Delta's readers see no data change in "compact", which only moves rows.
    operation: Operation = "extract"
    # Further entries of the history, as JSON can hold them.
    notes: Mapping[str, Any] = field(default_factory=dict)

    def change(self, table: Snapshot) -> Change:
        """Return the row counts of the commit on top of a version.

        The rows of other runs that it writes only move.
        """
        known = {part["path"]: part["num_records"] for part in table.parts}
        fresh = sum(
            part.rows for part in self.add if part.minimum.get("run_id", self.run_id) == self.run_id
        )
        moved = sum(part.rows for part in self.add) - fresh
        gone = sum(known.values()) if self.replace_all else sum(known[path] for path in self.remove)
        operation: Operation = "rebuild" if self.replace_all else self.operation
        rows = sum(known.values()) + fresh + moved - gone
        return Change(operation, rows, fresh, gone - moved)


def difference(now: Snapshot, goal: Snapshot) -> tuple[int, int, int]:
    """Count the rows of ``goal``, those that it adds to ``now``, and those that it removes.

    If ``now`` cannot be read, all rows of the added and removed parts count.

    Raises:
        Damaged: A part of ``goal`` cannot be read.
    """
    after = row_ids(goal.read(_ROW))
    try:
        before = row_ids(now.read(_ROW))
        return len(after), count_missing(after, before), count_missing(before, after)
    except Damaged:
        here, there = (
            {part["path"]: part["num_records"] for part in table.parts} for table in (now, goal)
        )
        added = sum(there[path] for path in there.keys() - here.keys())
        return len(after), added, sum(here[path] for path in here.keys() - there.keys())
