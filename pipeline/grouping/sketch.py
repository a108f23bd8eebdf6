"""Short vectors that tell which pairs of long ones cannot be near each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transforms.parts.vectors import Vectors

_DIRECTIONS = 128
_SEED = 2026
# Added to a squared length, which is rounded to some 1e-7. A bound that is too low loses a pair.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Sketcher:
    """Gives vectors sketches: a dot product of two sketches is at least that of the vectors.

    A vector x is split: x₁ lies in the space of a few directions, and x₂ is orthogonal to them all.
    Then x·y = x₁·y₁ + x₂·y₂ ≤ x₁·y₁ + |x₂| |y₂|. The sketch of x has the coordinates of x₁ and,
    last, |x₂|.
    """

    directions: Vectors  # float32 [D, d], orthogonal and of length 1

    @classmethod
    def of(cls, sample: Vectors) -> Sketcher:
        """Choose directions in which the vectors of a sample, float32 [n, D], are long.

        One step of the power method from random directions comes near to the longest ones
        (Halko, Martinsson, Tropp, "Finding structure with randomness", 2011).
        """
        shape = (sample.shape[1], min(_DIRECTIONS, sample.shape[1]))
        random = np.random.default_rng(_SEED).standard_normal(shape, np.float32)
        directions, _ = np.linalg.qr(sample.T @ (sample @ random))
        return cls(directions)

    def sketch(self, vectors: Vectors) -> Vectors:
        """Return the sketches, float32 [n, d + 1], of vectors of length 1, float32 [n, D]."""
        inside = vectors @ self.directions
        squared = 1 - np.einsum("nd,nd->n", inside, inside)
        outside = np.sqrt(np.maximum(squared, 0) + np.float32(_ROUNDING))
        return np.concatenate([inside, outside[:, None]], axis=1)
