"""Measure how far tonight's vectors differ from earlier ones.

Three figures, because each sees what the others miss (docs/reports.md has measurements):

- *novelty*: the share of images that are unlike any earlier one. It sees a few per cent of new
  content.
- *components*: the share of the vector's numbers whose distribution differs, by the test of
  Kolmogorov and Smirnov at 5 %. It sees a shift of all images, as by another decoder.
- *separability*: the area under the ROC curve of a logistic regression that tells tonight's images
  from earlier ones, by cross-validation; 0.5 when it cannot. It sees both, if they are large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
# Of the earlier images, those that no other is compared with: they say what is usual.
_HELD = 0.2
# The share of held-out earlier images that count as novel.
_QUANTILE = 0.01
# The critical value of Kolmogorov's distribution at 5 %.
_KS_5_PERCENT = 1.358
_DIRECTIONS, _FOLDS, _STEPS = 50, 5, 8
# A step that changes no rank any more.
_SMALL = 1e-3
# Below, the figures are noise.
FEWEST = 50


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """How far tonight's vectors differ from earlier ones; see the module."""

    novelty: float  # 0 to 1
    components: float  # 0 to 1
    separability: float  # 0.5 to 1, save for noise
    # The cosine of each of tonight's images to the most similar earlier one: float32 [n].
    nearest: Floats


def measure(earlier: Floats, tonight: Floats) -> Drift | None:
    """Compare two samples.

    Args:
        earlier: Vectors float32 [m, D].
        tonight: Vectors float32 [n, D].

    Returns:
        The figures; None when a sample has fewer than ``FEWEST`` vectors.
    """
    if min(len(earlier), len(tonight)) < FEWEST:
        return None
    novelty, nearest = _novelty(_unit(earlier), _unit(tonight))
    return Drift(novelty, _components(earlier, tonight), _separability(earlier, tonight), nearest)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit


def _novelty(earlier: Floats, tonight: Floats) -> tuple[float, Floats]:
    # The order of the rows may be that of folders: take every fifth one.
    held = np.arange(len(earlier)) % round(1 / _HELD) == 0
    known = earlier[~held].T
    usual = (earlier[held] @ known).max(axis=1)
    nearest: Floats = (tonight @ known).max(axis=1)
    return float(np.mean(nearest < np.quantile(usual, _QUANTILE))), nearest


def _components(earlier: Floats, tonight: Floats) -> float:
    n, m = len(earlier), len(tonight)
    critical = _KS_5_PERCENT * np.sqrt((n + m) / (n * m))
    a, b = np.sort(earlier, axis=0), np.sort(tonight, axis=0)
    differ = 0
    for one, other in zip(a.T, b.T, strict=True):
        at = np.concatenate([one, other])
        below = np.searchsorted(one, at, "right") / n - np.searchsorted(other, at, "right") / m
        differ += bool(np.abs(below).max() > critical)
    return differ / int(earlier.shape[1])


def _separability(earlier: Floats, tonight: Floats) -> float:
    """Return the mean area under the curve over folds; each fold holds a part of both samples."""
    rows = _directions(np.concatenate([earlier, tonight]))
    is_new = np.arange(len(rows)) >= len(earlier)
    # Neighbours in the table are alike, so each fold takes rows at random.
    folds = np.random.default_rng(0).permutation(len(rows)) % _FOLDS
    areas = []
    for fold in range(_FOLDS):
        test = folds == fold
        weights = _logistic(rows[~test], is_new[~test])
        areas.append(_area(rows[test] @ weights, is_new[test]))
    return float(np.mean(areas))


def main_directions(centred: Floats, count: int) -> Floats:
    """Return the directions in which rows vary most, the largest first.

    By subspace iteration from a random start (Halko, Martinsson, Tropp 2011, "Finding Structure
    with Randomness"): a full decomposition of 1280 numbers takes 2 s.

    Args:
        centred: float32 [n, D], with a mean of 0.
        count: Max number of directions.

    Returns:
        float32 [D, count] of length 1; fewer when there are fewer rows.
    """
    random = np.random.default_rng(0)
    size = min(count + 10, *centred.shape)
    axes = random.normal(size=(centred.shape[1], size)).astype(np.float32)
    for _ in range(4):
        axes = _orthonormal(centred.T @ (centred @ axes))
    placed = centred @ axes
    _, turned = np.linalg.eigh(placed.T @ placed)
    found: Floats = (axes @ turned[:, ::-1])[:, :count]
    return found


def _orthonormal(columns: Floats) -> Floats:
    """Return columns [D, k] turned so that each has length 1 and a right angle to the others.

    By the eigenvectors of a matrix [k, k]: numpy's QR shares each small step among all cores, and
    takes up to 1 s on cores that are busy.
    """
    wide = columns.astype(np.float64)
    squares, turned = np.linalg.eigh(wide.T @ wide)
    # A direction that the rows do not have gets a length of 0.
    known = squares > 1e-12 * max(squares[-1], 1e-300)
    lengths = np.where(known, np.sqrt(np.where(known, squares, 1)), np.inf)
    found: Floats = (wide @ (turned / lengths)).astype(np.float32)
    return found


def _directions(rows: Floats) -> npt.NDArray[np.float64]:
    """Return the rows in their main directions, each scaled to a deviation of 1, and a constant."""
    centred = rows - rows.mean(axis=0)
    placed = (centred @ main_directions(centred, _DIRECTIONS)).astype(np.float64)
    placed /= np.maximum(placed.std(axis=0), 1e-12)
    return np.column_stack([placed, np.ones(len(rows))])


def _logistic(
    rows: npt.NDArray[np.float64], is_new: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Fit a logistic regression by Newton's method; both sides weigh the same."""
    weight = np.where(is_new, 0.5 / max(is_new.sum(), 1), 0.5 / max((~is_new).sum(), 1))
    weight *= len(rows)
    coefficients = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(rows @ coefficients, -30, 30)))
        slope = rows.T @ (weight * (likely - is_new)) + coefficients
        curve = (rows.T * (weight * likely * (1 - likely))) @ rows + np.eye(rows.shape[1])
        step = np.linalg.solve(curve, slope)
        coefficients -= step
        if np.abs(step).max() < _SMALL:
            break
    return coefficients


def _area(scores: npt.NDArray[np.float64], is_new: npt.NDArray[np.bool_]) -> float:
    """Return the chance that a new row scores higher than an earlier one."""
    new = int(is_new.sum())
    old = len(scores) - new
    if not new or not old:
        return 0.5
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    return float((ranks[is_new].sum() - new * (new + 1) / 2) / (new * old))
