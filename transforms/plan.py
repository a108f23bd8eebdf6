"""Compare the listing with the tables: which images to process, which rows to delete.

Everything here works on Arrow columns. There is no Python object per image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.carried import hash_of
from transforms.errors import FailureKind

_TRANSIENT = [kind.word for kind in FailureKind if kind.transient]


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """Options that change which images are processed and which rows are deleted."""

    # Process every image, as if the tables were empty.
    rebuild: bool = False
    # Retry also the images whose failure lies in the image itself.
    retry_failed: bool = False
    # Keep the rows of images that are no longer listed.
    keep_removed: bool = False
    # Update the rows of images whose carried values changed.
    carry: bool = False


_DEFAULT_POLICY = PlanPolicy()


@dataclass(frozen=True, slots=True)
class Stale:
    """Rows of one table to delete, and the number of unlisted rows to keep."""

    # Rows to delete (string): of changed, retried, now successful and removed images.
    uris: pa.Array
    # Number of rows to keep although their images are no longer listed.
    kept: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of listed images in each of six classes, and of images in the tables."""

    new: int = 0
    changed: int = 0
    # Have a vector of the same etag and size, but other carried values.
    updated: int = 0
    # Failed before, for a reason that may have passed, or retried on request.
    retried: int = 0
    # Have a vector of the same etag and size.
    unchanged: int = 0
    # Failed before for a reason that lies in the image, which has not changed.
    still_failed: int = 0
    # In the tables, but no longer listed.
    gone: int = 0
    # In the tables.
    known: int = 0

    @property
    def listed(self) -> int:
        """Return the number of distinct images that the sources list."""
        tried = self.new + self.changed + self.updated + self.retried
        return tried + self.unchanged + self.still_failed

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Changes:
    """Differences between the listing and the tables, in one range of uris."""

    counts: Counts
    # LISTING_SCHEMA, sorted by uri: new, changed, updated and retried images.
    todo: pa.Table
    features: Stale
    errors: Stale


@dataclass(frozen=True, slots=True)
class Range:
    """Uris from ``low`` (included) to ``high`` (excluded; None for no upper bound)."""

    low: str = ""
    high: str | None = None


def ranges(row_counts: Iterable[tuple[str, int]], max_rows: int) -> list[Range]:
    """Cut all uris into ranges of about ``max_rows`` rows.

    Args:
        row_counts: Some uris, each with the number of rows from it up to the next uri.
        max_rows: Rows of one range.

    Returns:
        Ranges that together cover all uris; one range if there are at most ``max_rows`` rows, as on
        most nights.
    """
    cuts, held = [""], 0
    for uri, rows in sorted(row_counts):
        if held and held + rows > max_rows and uri > cuts[-1]:
            cuts.append(uri)
            held = 0
        held += rows
    return [Range(low, high) for low, high in itertools.pairwise([*cuts, None]) if low is not None]


def in_range(rows: pa.Table, within: Range) -> pa.Table:
    """Return the rows whose ``uri`` lies in a range."""
    if within == Range():
        return rows
    inside = pc.greater_equal(rows["uri"], within.low)
    if within.high is not None:
        inside = pc.and_(inside, pc.less(rows["uri"], within.high))
    return rows.filter(inside)


def compare(
    listed: pa.Table, features: pa.Table, errors: pa.Table, policy: PlanPolicy = _DEFAULT_POLICY
) -> Changes:
    """Compare a listing with the tables.

    An image is unchanged if both its etag and its size are. An image that two patterns list counts
    once. After the run the features table holds the unchanged images and those that got a vector.
    The errors table holds the images that still fail and those that failed in this run. All other
    rows are stale.

    Args:
        listed: The listing, LISTING_SCHEMA.
        features: Columns ``uri, etag, size`` of the features table; with the policy ``carry`` also
            ``content_sha256, source_hash``.
        errors: Columns ``uri, etag, size, kind`` of the errors table.
        policy: Options of the run.
    """
    listed = distinct(listed)
    in_features, in_errors = _Match(listed, features), _Match(listed, errors)
    again = _again(errors, policy.retry_failed)
    same = in_features.same & (not policy.rebuild)
    updated = (
        same & _updated(listed, features, in_features) if policy.carry else np.zeros_like(same)
    )
    unchanged = same & ~updated
    failed_before = ~same & in_errors.same & (not policy.rebuild)
    retried = failed_before & in_errors.look_up(again)
    still_failed = failed_before & ~retried
    todo = ~unchanged & ~still_failed
    known = (in_features.known | in_errors.known) & (not policy.rebuild)
    changed = todo & ~retried & ~updated & known
    gone = pa.concat_arrays([in_features.gone_uris(), in_errors.gone_uris()])
    return Changes(
        counts=Counts(
            new=int((todo & ~changed & ~retried & ~updated).sum()),
            changed=int(changed.sum()),
            updated=int(updated.sum()),
            retried=int(retried.sum()),
            unchanged=int(unchanged.sum()),
            still_failed=int(still_failed.sum()),
            gone=len(pc.unique(gone)),
            known=features.num_rows + errors.num_rows,
        ),
        todo=_with_contents(listed, features, in_features, updated).filter(pa.array(todo)),
        features=in_features.stale(unchanged, policy.keep_removed),
        errors=in_errors.stale(still_failed, policy.keep_removed),
    )


def _updated(listed: pa.Table, features: pa.Table, match: _Match) -> np.ndarray:
    """Tell for each listed image whether its row carries other values: bool [N]."""
    now = pa.array(map(hash_of, listed["source"].to_pylist()), pa.int64())
    before = match.take(features["source_hash"])
    same = pc.or_(
        pc.fill_null(pc.equal(now, before), False), pc.and_(pc.is_null(now), pc.is_null(before))
    )
    return ~_booleans(same)


def _with_contents(
    listed: pa.Table, features: pa.Table, match: _Match, updated: np.ndarray
) -> pa.Table:
    """Note the content of the images whose vector need not be computed again."""
    if not updated.any():
        return listed
    contents = pc.if_else(pa.array(updated), match.take(features["content_sha256"]), None)
    return listed.set_column(listed.schema.get_field_index("content"), "content", contents)


def _again(errors: pa.Table, all_of_them: bool) -> np.ndarray:
    """Tell for each row of the errors table whether to retry its unchanged image: bool [rows]."""
    if all_of_them:
        return np.ones(errors.num_rows, bool)
    return _booleans(pc.is_in(errors["kind"], pa.array(_TRANSIENT, pa.string())))


class _Match:
    """Match a listing of N images with a table of M rows, both with distinct uris."""

    def __init__(self, listed: pa.Table, table: pa.Table) -> None:
        self._uris = table["uri"].combine_chunks()
        position = pc.index_in(listed["uri"].combine_chunks(), value_set=self._uris)
        etags, sizes = listed["etag"].combine_chunks(), listed["size"].combine_chunks()
        # The size of a row of Parquet is not known before it is read. Then its etag decides.
        unknown = pc.and_(pc.equal(sizes, -1), pc.not_equal(etags, ""))
        same = pc.and_(
            pc.equal(etags, table["etag"].combine_chunks().take(position)),
            pc.or_(pc.equal(sizes, table["size"].combine_chunks().take(position)), unknown),
        )
        # Bool [N]: the table has a row of this uri.
        self.known = _booleans(pc.is_valid(position))
        # Bool [N]: the row has the same etag and size.
        self.same = _booleans(pc.fill_null(same, False))
        # Position of each image's row in the table, null without one: int32 [N].
        self._position = position
        # Int [known]: position of the row.
        self._rows = position.drop_null().to_numpy()
        self._gone = np.ones(len(self._uris), bool)
        self._gone[self._rows] = False

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Return each listed image's value, False without a row: bool [M] → bool [N]."""
        result = np.zeros(len(self.known), bool)
        result[self.known] = values[self._rows]
        return result

    def take(self, column: pa.ChunkedArray) -> pa.Array:
        """Return each listed image's value of a column of the table, null without a row: [N]."""
        return column.combine_chunks().take(self._position)

    def gone_uris(self) -> pa.Array:
        """Return the uris of the rows whose image is no longer listed."""
        return self._uris.filter(pa.array(self._gone))

    def stale(self, current: np.ndarray, keep_gone: bool) -> Stale:
        """Return all rows but those of ``current`` images (bool [N]) and, if kept, of gone ones."""
        stale = np.ones(len(self._uris), bool)
        stale[self._rows[current[self.known]]] = False
        if keep_gone:
            stale &= ~self._gone
        return Stale(self._uris.filter(pa.array(stale)), int((self._gone & ~stale).sum()))


def distinct(listed: pa.Table) -> pa.Table:
    """Return the first row of each uri, sorted by uri."""
    table = listed.combine_chunks()
    # The sort is stable: the first row of a uri stays first.
    table = table.take(pc.sort_indices(table, sort_keys=[("uri", "ascending")]))
    if table.num_rows < 2:
        return table
    repeats = pc.equal(table["uri"].slice(1), table["uri"].slice(0, table.num_rows - 1))
    keep = np.concatenate([[True], ~_booleans(repeats)])
    return table.filter(pa.array(keep))


def _booleans(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    result: np.ndarray = array.to_numpy(zero_copy_only=False)
    return result.astype(bool)
