"""What a head must beat: the most frequent labels, and the labels of the nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.training.examples import Rows, Targets
from pipeline.training.vectors import Side
from transforms.parts.vectors import Vectors

NEIGHBOURS = 20
# More rows than these are left out, chosen at random: 2 s of two cores.
_TRAIN, _TEST = 50_000, 1_000
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Baselines:
    """Accuracies without a head, 0 to 1."""

    largest: float  # of always giving the labels that are the most frequent
    neighbours: float  # of a vote of the nearest rows for training, by cosine
    # The numbers of rows that the neighbours were sought for, and among.
    asked: int
    among: int


def measure(train: Side, test: Side, targets: Targets, seed: int = 0) -> Baselines:
    """Measure both on the rows of the test, or on some of them.

    Args:
        train: The vectors for training.
        test: The vectors of the test; at least one.
        targets: The labels.
        seed: Decides which rows are left out.
    """
    known, known_rows = _sample(train, _TRAIN, seed)
    asked, asked_rows = _sample(test, _TEST, seed)
    wanted = targets.matrix(asked_rows)
    votes = targets.matrix(known_rows)
    said = np.stack([votes[near].mean(0) for near in _nearest(asked, known)])
    return Baselines(
        largest=_largest(train, test, targets),
        neighbours=_accuracy(said, wanted, targets.exclusive),
        asked=len(asked),
        among=len(known),
    )


def _largest(train: Side, test: Side, targets: Targets) -> float:
    """Return the accuracy of always giving the most frequent labels."""
    train_rows, test_rows = (
        np.concatenate([chunk.rows for chunk in side.chunks]) for side in (train, test)
    )
    if targets.exclusive:
        best = targets.counts(train_rows).argmax()
        return float(targets.counts(test_rows)[best] / len(test_rows))
    # Each label that more than half of the rows have.
    said = targets.counts(train_rows) > len(train_rows) / 2
    right = sum(
        int(((targets.matrix(test_rows[i : i + _BLOCK]) > 0.5) == said).all(1).sum())
        for i in range(0, len(test_rows), _BLOCK)
    )
    return right / len(test_rows)


def _sample(side: Side, most: int, seed: int) -> tuple[Vectors, Rows]:
    """Return at most this many rows, each with the same chance, and their vectors."""
    total = len(side)
    kept = np.zeros(total, bool)
    kept[np.random.default_rng(seed).permutation(total)[:most]] = True
    vectors, rows, start = [], [], 0
    for own, numbers in side.batches(_BLOCK):
        chosen = kept[start : start + len(numbers)]
        start += len(numbers)
        vectors.append(own[chosen])
        rows.append(numbers[chosen])
    return np.concatenate(vectors), np.concatenate(rows)


def _nearest(asked: Vectors, known: Vectors) -> Rows:
    """Return the positions of the nearest known vectors of each asked one: int64 [n, k]."""
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            for rows in (asked, known)]  # fmt: skip
    count = min(NEIGHBOURS, len(known))
    found = []
    for start in range(0, len(asked), 256):
        cosines = unit[0][start : start + 256] @ unit[1].T
        found.append(np.argpartition(-cosines, count - 1, axis=1)[:, :count])
    return np.concatenate(found)


def _accuracy(said: Vectors, wanted: Vectors, exclusive: bool) -> float:
    if exclusive:
        return float((said.argmax(1) == wanted.argmax(1)).mean())
    return float(((said > 0.5) == (wanted > 0.5)).all(1).mean())
