"""Which row each id of an index stands for, and how that differs from a version of the table.

A row never changes: another vector of the same image has another ``run_id``. So (uri, run_id) tells
whether a row in a new part is new, or was moved there by a compaction or a rewrite.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables.table import Table

# ``row`` is the place of the row in its part.
_PLACE = [
    pa.field("uri", pa.string()),
    pa.field("run_id", pa.string()),
    pa.field("label", pa.string()),
    pa.field("part", pa.string()),
    pa.field("row", pa.int32()),
]
PLACES = pa.schema(_PLACE)
ROW_NAMES = pa.schema([pa.field("id", pa.int64()), *_PLACE])


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """How the rows of an index stand to one version of the table."""

    # ROW_NAMES, sorted by id: the rows that are in both, with their places in this version.
    kept: pa.Table
    # PLACES: the rows of this version that the index lacks.
    fresh: pa.Table
    # Ids of the rows that are not in this version any more, int64 [n].
    removed: np.ndarray

    @property
    def rows(self) -> int:
        """The number of rows in this version."""
        return int(self.kept.num_rows + self.fresh.num_rows)


def compare(names: pa.Table, table: Table) -> Standing:
    """Compare the rows of an index with a version of the table. Only new parts are read.

    Args:
        names: The rows of the index (ROW_NAMES), sorted by id.
        table: The features table.

    Raises:
        Damaged: A part cannot be read.
        StorageError: The bucket does not answer.
    """
    there = pa.array([str(part["path"]) for part in table.parts], pa.string())
    known = pc.unique(names["part"])
    new_parts = there.filter(pc.invert(pc.is_in(there, value_set=known)))
    stays = pc.is_in(names["part"], value_set=there)
    if not len(new_parts):
        return Standing(names.filter(stays), PLACES.empty_table(), _ids(names, pc.invert(stays)))
    found = read_places(table, set(new_parts.to_pylist()))
    gone = names.filter(pc.invert(stays))
    place = pc.index_in(_keys(found), value_set=_keys(gone).combine_chunks())
    moved = pc.is_valid(place)
    now = found.filter(moved)
    again = gone.take(place.filter(moved))
    # Its id stays, and all else is what the new part says.
    relocated = now.add_column(0, ROW_NAMES.field("id"), again["id"]).cast(ROW_NAMES)
    kept = pa.concat_tables([names.filter(stays), relocated]).sort_by("id")
    lost = pc.invert(pc.is_in(gone["id"], value_set=again["id"].combine_chunks()))
    return Standing(kept, found.filter(pc.invert(moved)), _ids(gone, lost))


def read_places(table: Table, parts: set[str]) -> pa.Table:
    """Read what rows there are in some parts: PLACES.

    Raises:
        Damaged: A part cannot be read.
        StorageError: The bucket does not answer.
    """
    rows = table.read(["uri", "run_id", "label", "__filename"], parts=parts)
    names = np.array([str(path).rsplit("/", 1)[-1] for path in rows["__filename"].to_pylist()])
    places = np.zeros(len(names), np.int32)
    # The rows of a file come together, and in its order.
    starts = np.flatnonzero(names[1:] != names[:-1]) + 1
    for start, end in pairwise([0, *starts.tolist(), len(names)]):
        places[start:end] = np.arange(end - start)
    columns = [rows["uri"], rows["run_id"], rows["label"], pa.array(names, pa.string())]
    return pa.table([*columns, pa.array(places)], names=PLACES.names).cast(PLACES)


def _keys(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["run_id"], rows["uri"], "\n")


def _ids(names: pa.Table, mask: pa.ChunkedArray) -> np.ndarray:
    ids: np.ndarray = names["id"].filter(mask).to_numpy()
    return ids
