"""Lay vectors out in two dimensions, so that rows of a later night find their place."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transforms.parts.vectors import Vectors

_LOG = logging.getLogger(__name__)
# UMAP works on this many principal components, as its authors do for images.
_COMPONENTS = 50
# Rows that a layout is made of. UMAP took 94 s for them on two busy cores.
FIT_ROWS = 5_000
# Below, UMAP's neighbourhoods say nothing.
_UMAP_ROWS = 100
# A new row lies between its nearest rows of the layout.
_NEAREST = 5
_BATCH = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What gives each vector its place on the map.

    Without anchors the place is the first two principal components.
    """

    mean: Vectors  # float32 [D]
    axes: Vectors  # float32 [D, C], principal components with C from 2 to 50
    anchors: Vectors  # float32 [n, C], components of the rows that UMAP placed; n may be 0
    places: Vectors  # float32 [n, 2], where it placed them
    rows: int  # of the table when the layout was made

    @property
    def method(self) -> str:
        """The name of the method, for people."""
        return "UMAP" if len(self.anchors) else "PCA"

    def place(self, vectors: Vectors) -> Vectors:
        """Return the place of each vector [m, D] of length 1: float32 [m, 2]."""
        components = ((vectors - self.mean) @ self.axes).astype(np.float32, copy=False)
        if not len(self.anchors):
            return components[:, :2]
        batches = range(0, len(components), _BATCH)
        parts = [self._between(components[start : start + _BATCH]) for start in batches]
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    def _between(self, components: Vectors) -> Vectors:
        """Return the mean place of the nearest anchors, weighted by 1 / squared distance."""
        squares = (self.anchors**2).sum(1) - 2 * components @ self.anchors.T
        squares += (components**2).sum(1)[:, None]
        nearest = np.argpartition(squares, _NEAREST, axis=1)[:, :_NEAREST]
        weights = 1 / (np.take_along_axis(squares, nearest, 1).clip(0) + 1e-6)
        weights /= weights.sum(1, keepdims=True)
        placed: Vectors = (self.places[nearest] * weights[..., None]).sum(1).astype(np.float32)
        return placed


def fit(vectors: Vectors, rows: int) -> Layout:
    """Make a layout: by UMAP where it is installed and there are enough rows, else by PCA.

    UMAP is McInnes, Healy, Melville: "UMAP: Uniform Manifold Approximation and Projection for
    Dimension Reduction", https://arxiv.org/abs/1802.03426, by the package umap-learn.

    Args:
        vectors: float32 [n, D] of length 1; at most FIT_ROWS of them are used.
        rows: The count of all rows of the table.
    """
    # Evenly, since the first rows may all come from one folder.
    vectors = vectors[:: -(-len(vectors) // FIT_ROWS) or 1]
    mean = vectors.mean(0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)
    axes = _principal_axes(vectors - mean)
    none = np.zeros((0, axes.shape[1]), np.float32)
    pca = Layout(mean, axes, none, np.zeros((0, 2), np.float32), rows)
    if len(vectors) < _UMAP_ROWS:
        return pca
    try:
        from umap import UMAP
    except ImportError:
        return pca
    _LOG.info("making a map of %s images by UMAP, which takes a while", f"{len(vectors):,}")
    anchors = (vectors - mean) @ axes
    # With a seed it makes the same map each time.
    model = UMAP(n_components=2, random_state=1, n_jobs=1)
    places = model.fit_transform(anchors).astype(np.float32)
    return Layout(mean, axes, anchors, places, rows)


def _principal_axes(centered: Vectors) -> Vectors:
    """Return the principal axes of centered vectors [n, D]: float32 [D, C], largest first."""
    rows, dimension = centered.shape
    matrix = centered.astype(np.float64)
    if rows < dimension:
        # The axes from the products of the rows with each other, a smaller matrix.
        axes = matrix.T @ np.linalg.eigh(matrix @ matrix.T)[1]
        axes /= np.linalg.norm(axes, axis=0).clip(1e-12)
    else:
        axes = np.linalg.eigh(matrix.T @ matrix)[1]
    axes = axes[:, ::-1][:, :_COMPONENTS]
    # An axis has no direction of its own. This choice is the same for the same rows.
    if axes.size:
        largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
        axes = axes * np.where(largest < 0, -1, 1)
    missing = max(0, 2 - axes.shape[1])
    return np.pad(axes, ((0, 0), (0, missing))).astype(np.float32)


def load(file: Path, dimension: int) -> Layout | None:
    """Read a layout of vectors of a dimension; None if there is none, or it is damaged."""
    names = ("mean", "axes", "anchors", "places")
    try:
        with np.load(file, allow_pickle=False) as saved:
            mean, axes, anchors, places = (saved[name] for name in names)
            layout = Layout(mean, axes, anchors, places, int(saved["rows"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    count = axes.shape[-1]
    shapes = [(dimension,), (dimension, count), (len(anchors), count), (len(anchors), 2)]
    whole = [array.shape for array in (mean, axes, anchors, places)] == shapes and all(
        array.dtype == np.float32 and np.isfinite(array).all()
        for array in (mean, axes, anchors, places)
    )
    return layout if whole else None


def save(file: Path, layout: Layout) -> None:
    """Write a layout whole or not at all; a full disk costs only that it is made again."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as out:
                np.savez(
                    out,
                    mean=layout.mean,
                    axes=layout.axes,
                    anchors=layout.anchors,
                    places=layout.places,
                    rows=layout.rows,
                )
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
