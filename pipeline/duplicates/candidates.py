"""Find pairs of contents with similar vectors: candidates, which the pixels have yet to confirm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from transforms.parts.vectors import Vectors

# Of each content at most so many neighbours become candidates: a picture that looks like thousands
# of others would otherwise give millions of pairs.
NEIGHBOURS = 16
# Contents on each side of one product of matrices, which takes 32 MB.
_TILE = 2048

# a and b (int64 [n], numbers of contents) and their cosine (float32 [n]).
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


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
    best = _no_pairs()
    for found in others:
        best = _nearest([best, *_compare(numbers, queries, *found, cosine)])
    return best


def _compare(
    numbers: np.ndarray, queries: Vectors, theirs: np.ndarray, vectors: Vectors, cosine: float
) -> Iterator[Pairs]:
    for first in range(0, len(numbers), _TILE):
        rows = slice(first, first + _TILE)
        for start in range(0, len(theirs), _TILE):
            columns = slice(start, start + _TILE)
            scores = queries[rows] @ vectors[columns].T
            scores[numbers[rows, None] == theirs[None, columns]] = -np.inf
            row, column = np.nonzero(_enough(scores, cosine))
            yield numbers[rows][row], theirs[columns][column], scores[row, column]


def _enough(scores: np.ndarray, cosine: float) -> np.ndarray:
    """Tell which scores [m, n] reach the cosine and are among the highest of their row."""
    mask: np.ndarray = scores >= cosine
    for row in np.flatnonzero(mask.sum(axis=1) > NEIGHBOURS):
        places = np.argpartition(scores[row], -NEIGHBOURS)[-NEIGHBOURS:]
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
