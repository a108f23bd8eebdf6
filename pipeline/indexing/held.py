"""The recall of an index, measured on held queries whose exact results are kept up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from transforms.parts.vectors import Vectors

QUERIES = 200
AT = 10
# More than AT are kept, so that rows can be removed. A query that loses more is dropped.
_KEPT = 64
# Scores of equal pictures may differ by the rounding of a sum.
_EQUAL = 1e-6


@dataclass(slots=True)
class Held:
    """Queries that the index was not trained on, with their nearest rows by exact search."""

    queries: Vectors  # float32 [h, D], of length 1
    own: np.ndarray  # int64 [h]: the id of the row that the query is, which is no result of it
    ids: np.ndarray  # int64 [h, 64], nearest first; -1 where there is no further row
    scores: Vectors  # float32 [h, 64]; -inf where there is no further row
    # float32 [h]: rows with a lower score are not known, since they did not fit. -inf: all are.
    floor: Vectors

    @classmethod
    def of(cls, queries: Vectors, own: np.ndarray) -> Held:
        """Begin with no rows: ``add`` them all."""
        shape = (len(queries), _KEPT)
        return cls(
            queries,
            own.astype(np.int64),
            np.full(shape, -1, np.int64),
            np.full(shape, -np.inf, np.float32),
            np.full(len(queries), -np.inf, np.float32),
        )

    @classmethod
    def read(cls, path: Path) -> Held:
        """Read what ``write`` wrote; raise ``ValueError`` or ``OSError`` for anything else."""
        with np.load(path, allow_pickle=False) as data:
            try:
                return cls(*(data[field.name] for field in fields(cls)))
            except KeyError as error:
                raise ValueError(f"{path} lacks {error}") from error

    def write(self, path: Path) -> None:
        """Write everything to a file."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    def add(self, vectors: Vectors, ids: np.ndarray) -> None:
        """Take new rows into account: vectors of length 1, float32 [n, D], and ids, int64 [n]."""
        if not len(self.queries) or not len(ids):
            return
        scores = self.queries @ vectors.T
        scores[self.own[:, None] == ids[None, :]] = -np.inf
        scores[scores < self.floor[:, None]] = -np.inf
        # One more than fits tells how good a row may be that does not fit.
        if len(ids) > _KEPT + 1:
            best = np.argpartition(scores, -_KEPT - 1, axis=1)[:, -_KEPT - 1 :]
            scores, ids = np.take_along_axis(scores, best, 1), ids[best]
        else:
            ids = np.broadcast_to(ids, scores.shape)
        self._keep(np.concatenate([self.scores, scores], 1), np.concatenate([self.ids, ids], 1))

    def remove(self, ids: np.ndarray) -> None:
        """Take removed rows into account; drop queries that know too few of their nearest rows."""
        gone = np.isin(self.ids, ids)
        self._keep(np.where(gone, -np.inf, self.scores), np.where(gone, -1, self.ids))
        known = np.isneginf(self.floor) | ((self.ids >= 0).sum(1) >= AT)
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[known])

    def recall(self, search: Callable[[Vectors, int], np.ndarray], candidates: int = AT) -> float:
        """Return the mean share of the exact 10 nearest rows that a search finds.

        Args:
            search: Takes queries [h, D] and k; returns ids [h, k], nearest first.
            candidates: How many of them are compared again exactly, which brings each of the 10
                nearest to its place.
        """
        if not len(self.queries):
            return 1.0
        found = search(self.queries, candidates + 1)
        shares = []
        for query, own in enumerate(self.own):
            results = [number for number in found[query] if number not in (own, -1)][:candidates]
            wanted = min(AT, int((self.ids[query] >= 0).sum()))
            if not wanted:
                continue
            last = self.scores[query][wanted - 1]
            right = set(self.ids[query][self.scores[query] >= last - _EQUAL].tolist())
            shares.append(min(wanted, len(right & set(results))) / wanted)
        return float(np.mean(shares)) if shares else 1.0

    def _keep(self, scores: np.ndarray, ids: np.ndarray) -> None:
        """Keep the best of [h, more than 64], and note how good the first is that does not fit."""
        order = np.argsort(-scores, axis=1, kind="stable")
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
        if scores.shape[1] > _KEPT:
            self.floor = np.maximum(self.floor, scores[:, _KEPT])
        self.scores, self.ids = scores[:, :_KEPT].astype(np.float32), ids[:, :_KEPT]
        self.ids[np.isneginf(self.scores)] = -1
