"""Measure a classifier: accuracy, F1, confusions, calibration, and the temperature that mends it.

- Macro F1: the mean of the F1 of all classes, each with the same weight.
- Expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks"): how far
  confidence and accuracy differ, over 15 bins of confidence.
- Temperature: one number that all logits are divided by (the same paper).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
_BINS = 15
_LOWEST, _HIGHEST = 0.05, 20.0
# The confusions of more classes would take more than 32 MB.
_MOST_CLASSES = 2_000
_GOLDEN = (5**0.5 - 1) / 2


def scores_of(logits: Floats, exclusive: bool, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Return softmax, or sigmoid where labels do not exclude each other: float64 [N, classes]."""
    scaled = logits.astype(np.float64) / temperature
    if not exclusive:
        negative: npt.NDArray[np.float64] = np.exp(-np.abs(scaled))
        scores: npt.NDArray[np.float64] = np.where(scaled >= 0, 1.0, negative) / (1 + negative)
        return scores
    scaled -= scaled.max(1, keepdims=True)
    powers: npt.NDArray[np.float64] = np.exp(scaled)
    powers /= powers.sum(1, keepdims=True)
    return powers


@dataclass(slots=True)
class Calibration:
    """Adds up confidences, and how often they were right."""

    rows: Counts = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    confidence: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    right: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))

    def add(self, confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> None:
        """Add decisions [n]: the confidence of each, 0 to 1, and whether it was right."""
        bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
        self.rows += np.bincount(bins, minlength=_BINS)
        self.confidence += np.bincount(bins, confidence, _BINS)
        self.right += np.bincount(bins, right, _BINS)

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1."""
        return float(np.abs(self.confidence - self.right).sum() / max(self.rows.sum(), 1))


@dataclass(slots=True)
class Evaluation:
    """Adds up what a head says of the rows of the test."""

    classes: int
    exclusive: bool
    temperature: float
    rows: int = 0
    right: int = 0  # rows whose labels are all right
    # [true, said]; None where a row may have several labels, or where there are too many classes.
    confusion: Counts | None = None
    true: Counts = field(init=False)  # by class: rows that have it
    said: Counts = field(init=False)  # rows that the head gives it
    both: Counts = field(init=False)
    before: Calibration = field(default_factory=Calibration)
    after: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        self.true, self.said, self.both = (np.zeros(self.classes, np.int64) for _ in range(3))
        if self.exclusive and self.classes <= _MOST_CLASSES:
            self.confusion = np.zeros((self.classes, self.classes), np.int64)

    def add(self, logits: Floats, targets: npt.NDArray[np.int32] | Floats) -> None:
        """Add rows: logits before the temperature [n, classes], and targets as ``Targets.of``."""
        self.rows += len(logits)
        if self.exclusive:
            self._add_exclusive(logits, targets.astype(np.int64))
        else:
            self._add_several(logits, targets > 0.5)

    def _add_exclusive(self, logits: Floats, true: Counts) -> None:
        said = logits.argmax(1)
        right = said == true
        if self.confusion is not None:
            np.add.at(self.confusion, (true, said), 1)
        self.right += int(right.sum())
        self.true += np.bincount(true, minlength=self.classes)
        self.said += np.bincount(said, minlength=self.classes)
        self.both += np.bincount(true[right], minlength=self.classes)
        for calibration, temperature in ((self.before, 1.0), (self.after, self.temperature)):
            calibration.add(scores_of(logits, True, temperature).max(1), right)

    def _add_several(self, logits: Floats, true: npt.NDArray[np.bool_]) -> None:
        said = logits > 0
        self.right += int((said == true).all(1).sum())
        self.true += true.sum(0)
        self.said += said.sum(0)
        self.both += (said & true).sum(0)
        for calibration, temperature in ((self.before, 1.0), (self.after, self.temperature)):
            scores = scores_of(logits, False, temperature).ravel()
            calibration.add(np.maximum(scores, 1 - scores), (said == true).ravel())

    @property
    def accuracy(self) -> float:
        """The share of rows whose labels are all right."""
        return self.right / max(self.rows, 1)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """The F1 of each class [classes]; NaN for a class that the test has no row of."""
        denominator = self.true + self.said
        scores = np.divide(
            2.0 * self.both, denominator, out=np.zeros(self.classes), where=denominator > 0
        )
        return np.where(self.true > 0, scores, np.nan)

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that the test has rows of."""
        f1 = self.f1
        return float(np.nanmean(f1)) if (self.true > 0).any() else 0.0

    def confusions(self, most: int = 5) -> list[tuple[int, int, int]]:
        """Return the most frequent mistakes: true class, class that was said, rows."""
        if self.confusion is None:
            return []
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        places = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [(int(t), int(s), int(wrong[t, s])) for t, s in places if wrong[t, s]]


def best_temperature(
    logits: Floats, targets: npt.NDArray[np.int32] | Floats, exclusive: bool
) -> float:
    """Return the temperature with the smallest loss, by golden-section search over its logarithm.

    Args:
        logits: float32 [N, classes], of rows that the head did not learn from.
        targets: As ``Targets.of``.
        exclusive: Whether one label excludes the others.

    Returns:
        The temperature; 1 where it cannot be told, because there are no rows. It is at least 1
        where the head is right on all rows: the smallest loss would make it sure of everything.
    """
    if not len(logits):
        return 1.0
    said = logits.argmax(1) if exclusive else logits > 0
    lowest = 1.0 if np.array_equal(said, targets if exclusive else targets > 0.5) else _LOWEST
    low, high = np.log(lowest), np.log(_HIGHEST)
    for _ in range(40):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _loss(logits, targets, exclusive, np.exp(left)) <= _loss(
            logits, targets, exclusive, np.exp(right)
        ):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _loss(
    logits: Floats, targets: npt.NDArray[np.int32] | Floats, exclusive: bool, temperature: float
) -> float:
    scores = scores_of(logits, exclusive, temperature)
    if exclusive:
        chosen = scores[np.arange(len(scores)), targets.astype(np.int64)]
    else:
        chosen = np.where(targets > 0.5, scores, 1 - scores)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())
