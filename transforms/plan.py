"""Plan: what the sources list, compared with what the tables hold → the images to do, cut into shards.

Everything here works on Arrow columns; there is no Python object per image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.errors import FailureKind
from transforms.records import REFERENCE_SCHEMA

_TRANSIENT = [kind.word for kind in FailureKind if kind.transient]


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """What a run does with images that a first look leaves alone."""

    # Do every image; the tables count as empty
    rebuild: bool = False
    # Try those too that failed for a reason that lies in the image
    retry_failed: bool = False
    # Rows of images that are no longer listed stay
    keep_removed: bool = False


_USUAL = PlanPolicy()


@dataclass(frozen=True, slots=True)
class Stale:
    """The rows of one table that the run takes out, and those that it leaves though nothing lists them."""

    # string: of changed, tried again, mended and removed images
    uris: pa.Array
    # Rows of images that are no longer listed and stay
    kept: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The five classes that make up the listing, and what of the tables it does not name."""

    new: int = 0
    changed: int = 0
    retried: int = (
        # Failed before, for a reason that may have passed, or because they were asked for
        0
    )
    unchanged: int = 0  # have a vector of these very bytes
    still_failed: int = (
        # Failed before for a reason that lies in the image, which has not changed
        0
    )
    # Images of the tables that are no longer listed
    gone: int = 0
    known: int = 0  # images of the tables

    @property
    def listed(self) -> int:
        """Distinct images that the sources list."""
        return self.new + self.changed + self.retried + self.unchanged + self.still_failed

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Changes:
    """The listing against the tables, in one range of uris."""

    counts: Counts
    # REFERENCE_SCHEMA, sorted by uri: new, changed and retried images
    todo: pa.Table
    features: Stale
    errors: Stale


@dataclass(frozen=True, slots=True)
class Range:
    """Uris from ``low`` on and before ``high``; None is the end of all."""

    low: str = ""
    high: str | None = None


def ranges(spread: Iterable[tuple[str, int]], most: int) -> list[Range]:
    """Cut all uris into ranges of about ``most`` rows, given some uris and the rows that follow each.

    One range when there are no more rows than that, as on most nights.
    """
    cuts, held = [""], 0
    for uri, rows in sorted(spread):
        if held and held + rows > most and uri > cuts[-1]:
            cuts.append(uri)
            held = 0
        held += rows
    return [Range(low, high) for low, high in itertools.pairwise([*cuts, None]) if low is not None]


def in_range(rows: pa.Table, within: Range) -> pa.Table:
    """The rows whose ``uri`` lies in a range."""
    if within == Range():
        return rows
    inside = pc.greater_equal(rows["uri"], within.low)
    if within.high is not None:
        inside = pc.and_(inside, pc.less(rows["uri"], within.high))
    return rows.filter(inside)


def compare(
    listed: pa.Table, features: pa.Table, errors: pa.Table, policy: PlanPolicy = _USUAL
) -> Changes:
    """Compare a listing (REFERENCE_SCHEMA) with the tables' columns ``uri, etag, size`` (errors: ``kind`` too).

    An image is the same when both its etag and its size are. Listed twice, by two patterns, it
    counts once. After the run the features table is to hold the unchanged images and those that got
    a vector, the errors table those that failed still and those that failed now, and nothing else:
    whatever else they hold is stale.
    """
    listed = distinct(listed)
    in_features, in_errors = _Match(listed, features), _Match(listed, errors)
    again = _again(errors, policy.retry_failed)
    unchanged = in_features.same & (not policy.rebuild)
    failed_before = ~unchanged & in_errors.same & (not policy.rebuild)
    retried = failed_before & in_errors.look_up(again)
    still_failed = failed_before & ~retried
    todo = ~unchanged & ~still_failed
    changed = todo & ~retried & (in_features.known | in_errors.known) & (not policy.rebuild)
    gone = pa.concat_arrays([in_features.gone_uris(), in_errors.gone_uris()])
    return Changes(
        counts=Counts(
            new=int((todo & ~changed & ~retried).sum()),
            changed=int(changed.sum()),
            retried=int(retried.sum()),
            unchanged=int(unchanged.sum()),
            still_failed=int(still_failed.sum()),
            gone=len(pc.unique(gone)),
            known=features.num_rows + errors.num_rows,
        ),
        todo=listed.filter(pa.array(todo)),
        features=in_features.stale(unchanged, policy.keep_removed),
        errors=in_errors.stale(still_failed, policy.keep_removed),
    )


def _again(errors: pa.Table, all_of_them: bool) -> np.ndarray:
    """Tell for each row of the errors table whether to retry its unchanged image: bool [rows]."""
    if all_of_them:
        return np.ones(errors.num_rows, bool)
    return _booleans(pc.is_in(errors["kind"], pa.array(_TRANSIENT, pa.string())))


class _Match:
    """A listing of N images against a table of M rows, both with distinct uris."""

    def __init__(self, listed: pa.Table, table: pa.Table) -> None:
        self._uris = table["uri"].combine_chunks()
        position = pc.index_in(listed["uri"].combine_chunks(), value_set=self._uris)
        same = pc.and_(
            pc.equal(
                listed["etag"].combine_chunks(), table["etag"].combine_chunks().take(position)
            ),
            pc.equal(
                listed["size"].combine_chunks(), table["size"].combine_chunks().take(position)
            ),
        )
        # Bool [N]: the table has a row of this name
        self.known = _booleans(pc.is_valid(position))
        self.same = _booleans(pc.fill_null(same, False))  # bool [N]: and of this very version
        self._rows = position.drop_null().to_numpy()  # int [known]: which one
        self._gone = np.ones(len(self._uris), bool)
        self._gone[self._rows] = False

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Bool [M] → bool [N]: the value of each listed image's row, False where it has none."""
        result = np.zeros(len(self.known), bool)
        result[self.known] = values[self._rows]
        return result

    def gone_uris(self) -> pa.Array:
        """The uris of the rows whose image is no longer listed."""
        return self._uris.filter(pa.array(self._gone))

    def stale(self, current: np.ndarray, keep_gone: bool) -> Stale:
        """All rows but those of the images ``current`` (bool [N]), and with ``keep_gone`` of the gone ones."""
        stale = np.ones(len(self._uris), bool)
        stale[self._rows[current[self.known]]] = False
        if keep_gone:
            stale &= ~self._gone
        return Stale(self._uris.filter(pa.array(stale)), int((self._gone & ~stale).sum()))


def distinct(listed: pa.Table) -> pa.Table:
    """Sorted by uri, each uri once: its first occurrence."""
    table = listed.select(REFERENCE_SCHEMA.names).combine_chunks()
    order = pc.sort_indices(
        table, sort_keys=[("uri", "ascending")]
    )  # stable: the first stays first
    table = table.take(order)
    if table.num_rows < 2:
        return table
    repeats = pc.equal(table["uri"].slice(1), table["uri"].slice(0, table.num_rows - 1))
    keep = np.concatenate([[True], ~_booleans(repeats)])
    return table.filter(pa.array(keep))


def _booleans(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    result: np.ndarray = array.to_numpy(zero_copy_only=False)
    return result.astype(bool)


@dataclass(frozen=True, slots=True)
class ShardPolicy:
    """How large shards are."""

    images: int  # most in one shard
    bytes: int  # after as many a shard ends
    # That are to have four shards each, where there is that much work
    workers: int = 1


def shard_bounds(sizes: np.ndarray, policy: ShardPolicy) -> list[tuple[int, int]]:
    """Cut N references, given their sizes (int64 [N], -1 where unknown), into shards: pairs of start and length.

    An image takes the share of a shard that its count or its bytes take, whichever is more, and
    shards are cut to nearly equal shares: at most ``images`` each, and not more than one image over
    ``bytes``. There are at least four a worker where there are enough images, so that a slow shard
    leaves nobody idle for long; but not for shards under 64 images, below which start-up and
    padding show. An unknown size counts as the mean of the known ones.
    """
    if not len(sizes):
        return []
    known = sizes >= 0
    sizes = np.where(known, sizes, sizes[known].mean() if known.any() else 0)
    shares = np.cumsum(np.maximum(1 / policy.images, np.minimum(sizes / policy.bytes, 1)))
    enough = min(4 * policy.workers, -(-len(sizes) // 64))
    slack = 0.25 / policy.images  # what rounding may add up to
    shards = max(int(np.ceil(shares[-1] - slack)), enough, 1)
    ends = np.searchsorted(shares, shares[-1] * np.arange(1, shards) / shards + slack, side="right")
    edges = np.unique([0, *ends, len(sizes)]).tolist()
    return [(start, end - start) for start, end in itertools.pairwise(edges)]
