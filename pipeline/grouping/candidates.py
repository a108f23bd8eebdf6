"""Find pairs of contents with similar vectors: candidates, which the pixels have yet to confirm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.grouping.sketch import Sketcher
from transforms.parts.vectors import Vectors

# Of each content at most so many neighbours become candidates: a picture that looks like thousands
# of others would otherwise give millions of pairs.
NEIGHBOURS = 16
# Contents on each side of a tile, whose scores take 16 MB. Smaller tiles would stay in a core's
# cache. But the threads of one product wait for each other: with tiles of 512, two busy cores took
# four times as long.
_TILE = 2048
# So few queries are compared faster than sketches of all contents are made.
_FEW = 512
# A score of a pair alone takes as long as so many scores in a product of matrices.
_ALONE = 250
# Pairs whose scores are computed at once, in 20 MB.
_AT_ONCE = 2048

# a and b (int64 [n], numbers of contents) and their cosine (float32 [n]).
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Contents on one side of the comparison."""

    numbers: np.ndarray  # int64 [n]
    vectors: Vectors  # float32 [n, D], of length 1
    sketches: Vectors  # float32 [n, d]; the vectors themselves for few queries

    def tiles(self) -> Iterator[tuple[slice, _Side]]:
        for start in range(0, len(self.numbers), _TILE):
            some = slice(start, start + _TILE)
            yield some, _Side(self.numbers[some], self.vectors[some], self.sketches[some])


def candidates(
    numbers: np.ndarray,
    queries: Vectors,
    others: Iterable[tuple[np.ndarray, Vectors]],
    cosine: float,
) -> Pairs:
    """Find for each query its nearest contents, at most ``NEIGHBOURS``, itself left out.

    Args:
        numbers: The contents' numbers, int64 [m].
        queries: Their vectors, float32 [m, D] of length 1.
        others: Blocks of contents to compare with: numbers int64 [n], vectors float32 [n, D] of
            length 1.
        cosine: The least cosine of a pair.

    Returns:
        The pairs; ``a`` is the query. The pairs of a query lie together, nearest first.
    """
    sketch = Sketcher.of(queries).sketch if len(queries) > _FEW else _unchanged
    mine = _Side(numbers, queries, sketch(queries))
    # What a further pair of each query must reach.
    least = np.full(len(numbers), cosine, np.float32)
    best = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    for found, vectors in others:
        theirs = _Side(found, vectors, sketch(vectors))
        best = _nearest([best, *_pairs(mine, theirs, least)])
        _raise(least, best)
    query, b, score = best
    return numbers[query], b, score


def _unchanged(vectors: Vectors) -> Vectors:
    return vectors


def _pairs(mine: _Side, theirs: _Side, least: Vectors) -> Iterator[Pairs]:
    """Yield the pairs that are near enough; the first column is the place of the query."""
    for rows, a in mine.tiles():
        for _, b in theirs.tiles():
            row, column, score = _near(a, b, least[rows, None])
            others = a.numbers[row] != b.numbers[column]
            yield row[others] + rows.start, b.numbers[column[others]], score[others]


def _near(mine: _Side, theirs: _Side, least: Vectors) -> Pairs:
    """Return rows and columns of two tiles whose score reaches that of its row, float32 [m, 1].

    Of a row with many, only the nearest are returned.
    """
    row, column = _places(mine.sketches @ theirs.sketches.T >= least)
    if len(row) * _ALONE < len(mine.numbers) * len(theirs.numbers):
        score = _scores(mine.vectors, theirs.vectors, row, column)
        near = score >= least[row, 0]
        return row[near], column[near], score[near]
    scores = mine.vectors @ theirs.vectors.T
    row, column = _places(_enough(scores, least))
    return row, column, scores[row, column]


def _scores(mine: Vectors, theirs: Vectors, row: np.ndarray, column: np.ndarray) -> Vectors:
    """Return the dot products of some rows with some others, float32 [n]."""
    scores = np.empty(len(row), np.float32)
    for start in range(0, len(row), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        np.einsum("nd,nd->n", mine[row[some]], theirs[column[some]], out=scores[some])
    return scores


def _enough(scores: np.ndarray, least: Vectors) -> np.ndarray:
    """Tell which scores [m, n] are high enough, and among the highest of their row."""
    mask: np.ndarray = scores >= least
    # One of them may be the content itself.
    most = NEIGHBOURS + 1
    for row in np.flatnonzero(np.count_nonzero(mask, axis=1) > most):
        places = np.argpartition(scores[row], -most)[-most:]
        mask[row] = False
        mask[row, places] = True
    return mask


def _places(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of what is true: ``nonzero``, which takes 6 times as long."""
    row, column = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return row, column


def _nearest(pairs: list[Pairs]) -> Pairs:
    """Return the nearest pairs of each query, sorted by query, nearest first."""
    a, b, cosine = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.lexsort((b, -cosine, a))
    a, b, cosine = a[order], b[order], cosine[order]
    keep = np.arange(len(a)) - np.searchsorted(a, a) < NEIGHBOURS
    return a[keep], b[keep], cosine[keep]


def _raise(least: Vectors, best: Pairs) -> None:
    """Raise the score that a further pair of a query must reach to that of its last one."""
    query, _, score = best
    last = np.flatnonzero(np.arange(len(query)) - np.searchsorted(query, query) == NEIGHBOURS - 1)
    least[query[last]] = score[last]
