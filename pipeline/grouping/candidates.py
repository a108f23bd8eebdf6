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
# Contents on each side of a tile, whose scores take 16 MB.
_TILE = 2048
# A score of a pair alone takes as long as so many scores in a product of matrices.
_ALONE = 100
# Pairs whose scores are computed at once, in 20 MB.
_AT_ONCE = 2048

# a and b (int64 [n], numbers of contents) and their cosine (float32 [n]).
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Contents on one side of the comparison."""

    numbers: np.ndarray  # int64 [n]
    vectors: Vectors  # float32 [n, D], of length 1
    sketches: Vectors  # float32 [n, d]

    def tiles(self) -> Iterator[_Side]:
        for start in range(0, len(self.numbers), _TILE):
            some = slice(start, start + _TILE)
            yield _Side(self.numbers[some], self.vectors[some], self.sketches[some])


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
        The pairs; ``a`` is the query. They are sorted by query, nearest first.
    """
    sketcher = Sketcher.of(queries)
    mine = _Side(numbers, queries, sketcher.sketch(queries))
    best = _no_pairs()
    for found, vectors in others:
        theirs = _Side(found, vectors, sketcher.sketch(vectors))
        pairs = (_near(a, b, cosine) for a in mine.tiles() for b in theirs.tiles())
        best = _nearest([best, *pairs])
    return best


def _near(mine: _Side, theirs: _Side, cosine: float) -> Pairs:
    """Return the pairs of two tiles that reach the cosine, without those of a content and itself.

    Of a query with many, only the nearest are returned.
    """
    bounds = mine.sketches @ theirs.sketches.T
    row, column = np.nonzero(bounds >= cosine)
    if len(row) * _ALONE < bounds.size:
        score = _scores(mine.vectors, theirs.vectors, row, column)
        near = score >= cosine
        row, column, score = row[near], column[near], score[near]
    else:
        scores = mine.vectors @ theirs.vectors.T
        row, column = np.nonzero(_enough(scores, cosine))
        score = scores[row, column]
    a, b = mine.numbers[row], theirs.numbers[column]
    others = a != b
    return a[others], b[others], score[others]


def _scores(mine: Vectors, theirs: Vectors, row: np.ndarray, column: np.ndarray) -> Vectors:
    """Return the dot products of some rows with some others, float32 [n]."""
    scores = np.empty(len(row), np.float32)
    for start in range(0, len(row), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        np.einsum("nd,nd->n", mine[row[some]], theirs[column[some]], out=scores[some])
    return scores


def _enough(scores: np.ndarray, cosine: float) -> np.ndarray:
    """Tell which scores [m, n] reach the cosine and are among the highest of their row."""
    mask: np.ndarray = scores >= cosine
    # One of them may be the content itself.
    most = NEIGHBOURS + 1
    for row in np.flatnonzero(mask.sum(axis=1) > most):
        places = np.argpartition(scores[row], -most)[-most:]
        mask[row] = False
        mask[row, places] = True
    return mask


def _nearest(pairs: list[Pairs]) -> Pairs:
    """Return the nearest pairs of each query."""
    a, b, cosine = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.lexsort((b, -cosine, a))
    a, b, cosine = a[order], b[order], cosine[order]
    starts = np.searchsorted(a, a)
    keep = np.arange(len(a)) - starts < NEIGHBOURS
    return a[keep], b[keep], cosine[keep]


def _no_pairs() -> Pairs:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
