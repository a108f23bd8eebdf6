"""Plan: what the sources list, compared with what the tables hold → the images to do, cut into shards.

Everything here works on Arrow columns; there is no Python object per image.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import FailureKind
from transforms.records import REFERENCE_SCHEMA

_TRANSIENT = [kind.word for kind in FailureKind if kind.transient]


@dataclass(frozen=True, slots=True)
class Changes:
    """The listing against the tables. ``listed`` is the sum of the counts."""

    todo: pa.Table  # REFERENCE_SCHEMA, sorted by uri: new, changed and retried images
    new: int
    changed: int
    retried: int  # failed before, for a reason that may have passed
    unchanged: int  # have a vector of these very bytes
    still_failed: int  # failed before for a reason that lies in the image, which has not changed

    @property
    def listed(self) -> int:
        """Distinct images that the sources list."""
        return self.new + self.changed + self.retried + self.unchanged + self.still_failed


def compare(listed: pa.Table, features: pa.Table, errors: pa.Table) -> Changes:
    """Compare a listing (REFERENCE_SCHEMA) with the tables' columns ``uri, etag, size`` (errors: ``kind`` too).

    An image is the same when both its etag and its size are. Listed twice, by two patterns, it counts once.
    """
    listed = distinct(listed)
    in_features, same_features = _match(listed, features)
    in_errors, same_errors = _match(listed, errors)
    transient = pc.is_in(errors["kind"], pa.array(_TRANSIENT)) if errors.num_rows else pa.array([], pa.bool_())
    may_have_passed = _lookup(listed, errors, transient)
    unchanged = in_features & same_features
    still_failed = ~unchanged & in_errors & same_errors & ~may_have_passed
    retried = ~unchanged & in_errors & same_errors & may_have_passed
    changed = ~unchanged & ~still_failed & ~retried & (in_features | in_errors)
    todo = ~unchanged & ~still_failed
    return Changes(
        todo=listed.filter(pa.array(todo)),
        new=int((todo & ~changed & ~retried).sum()),
        changed=int(changed.sum()),
        retried=int(retried.sum()),
        unchanged=int(unchanged.sum()),
        still_failed=int(still_failed.sum()),
    )


def distinct(listed: pa.Table) -> pa.Table:
    """Sorted by uri, each uri once: its first occurrence."""
    table = listed.select(REFERENCE_SCHEMA.names).combine_chunks()
    order = pc.sort_indices(table, sort_keys=[("uri", "ascending")])  # stable: the first stays first
    table = table.take(order)
    if table.num_rows < 2:
        return table
    repeats = pc.equal(table["uri"].slice(1), table["uri"].slice(0, table.num_rows - 1))
    keep = np.concatenate([[True], ~_booleans(repeats)])
    return table.filter(pa.array(keep))


def _match(listed: pa.Table, known: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Per listed image: is its uri known, and are etag and size the known ones? Two bool [N]."""
    if not known.num_rows:
        nothing = np.zeros(listed.num_rows, bool)
        return nothing, nothing.copy()
    position = pc.index_in(listed["uri"], value_set=known["uri"].combine_chunks())
    same = pc.and_(
        pc.equal(listed["etag"], known["etag"].take(position)),
        pc.equal(listed["size"], known["size"].take(position)),
    )
    return _booleans(pc.is_valid(position)), _booleans(pc.fill_null(same, False))


def _lookup(listed: pa.Table, known: pa.Table, values: pa.Array) -> np.ndarray:
    """Per listed image, the bool of its known row; False where there is none."""
    if not known.num_rows:
        return np.zeros(listed.num_rows, bool)
    position = pc.index_in(listed["uri"], value_set=known["uri"].combine_chunks())
    return _booleans(pc.fill_null(values.take(position), False))


def _booleans(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    result: np.ndarray = array.to_numpy(zero_copy_only=False)
    return result.astype(bool)


def shard_bounds(count: int, shard_size: int, workers: int) -> list[tuple[int, int]]:
    """Cut ``count`` references into shards of nearly equal length: pairs of start and length.

    At most ``shard_size`` each, and at least four shards a worker where there are enough images, so that a
    slow shard leaves nobody idle for long; but not under 64 images, below which start-up and padding show.
    """
    if not count:
        return []
    enough = min(4 * workers, -(-count // 64))
    shards = max(-(-count // shard_size), enough, 1)
    edges = [round(i * count / shards) for i in range(shards + 1)]
    return [(start, end - start) for start, end in itertools.pairwise(edges)]
