"""Search an index as it stands to one version of the table: exact where it knows nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.indexing import ivf
from pipeline.indexing.facts import IndexFacts
from pipeline.indexing.files import IndexDamaged
from pipeline.indexing.rows import Standing
from pipeline.retrieval.blocks import Block, Cache, read_blocks
from pipeline.retrieval.exact import HITS, Allowed, merge_hits, search_blocks
from transforms.parts.vectors import Vectors
from transforms.storage import Storage

# With 8 bits a number, the scores of near neighbours are too coarse to order them.
RERANKED = 20
# Rows that the index lacks are kept in memory when they take no more.
_SMALL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """The vectors of an index: FAISS' indexes, which share their cells."""

    indexes: Sequence[Any]
    facts: IndexFacts

    def nearest(
        self, queries: Vectors, k: int, probes: int, chosen: ivf.Chosen
    ) -> tuple[Vectors, np.ndarray]:
        """Find the nearest ids among the allowed ones.

        Args:
            queries: Vectors of length 1, float32 [m, D].
            k: Max number of results.
            probes: How many cells to look into; more when they hold too few rows.
            chosen: The ids that may be found.

        Returns:
            Scores float32 [m, k], nearest first, and ids int64 [m, k]; -1 for no further result.

        Raises:
            IndexDamaged: It has ids that it should not have.
        """
        wanted = min(k, chosen.count)
        while True:
            scores, ids = ivf.search(self.indexes, queries, k, probes, chosen)
            enough = bool(((ids >= 0).sum(1) >= wanted).all())
            if enough or probes >= self.facts.lists:
                break
            probes *= 4
        if ids.size and ids.max() >= chosen.length:
            raise IndexDamaged(f"the index {self.facts.key} holds ids that it never gave")
        order = np.argsort(-np.where(ids >= 0, scores, -np.inf), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)


class View:
    """An index, seen from one version of the table.

    Args:
        storage: The table's folder.
        lists: The vectors of the index.
        standing: How its rows stand to the version.
        cache: Of blocks that were read.
    """

    def __init__(self, storage: Storage, lists: Lists, standing: Standing, cache: Cache) -> None:
        self._storage = storage
        self._lists = lists
        self._cache = cache
        self.standing = standing
        self._names = standing.kept.combine_chunks()
        ids = standing.kept["id"].to_numpy()
        self._place = np.full(lists.facts.next_id, -1, np.int64)
        self._place[ids] = np.arange(len(ids))
        self._all = ivf.Chosen.of(self._place >= 0)
        self._small: list[Block] | None = None
        self.fresh_parts = sorted(pc.unique(standing.fresh["part"]).to_pylist())

    def __str__(self) -> str:
        text = f"index of version {self._lists.facts.version}"
        fresh, removed = self.standing.fresh.num_rows, len(self.standing.removed)
        if fresh:
            text += f"; {fresh:,} rows added since were compared exactly"
        return text + (f"; {removed:,} removed since were left out" if removed else "")

    def search(
        self, queries: Vectors, k: int, allowed: Allowed, effort: int | None = None
    ) -> list[pa.Table]:
        """Find the nearest rows of each query.

        Args:
            queries: Vectors of length 1, float32 [m, D].
            k: Max number of rows for each query.
            allowed: Which rows may be found.
            effort: How many cells to look into; None for the default.

        Returns:
            For each query its hits (HITS), best first.

        Raises:
            IndexDamaged: The index holds what was not written.
            Damaged: A part of the table cannot be read.
        """
        mask = allowed.mask(self._names["uri"])
        chosen = self._all
        probes = effort or self._lists.facts.probes
        if mask is not None:
            found = self._place >= 0
            found[found] = mask[self._place[found]]
            chosen = ivf.Chosen.of(found)
            # The fewer rows are allowed, the more cells hold as many of them. All rows of the index
            # may have left the table.
            probes = math.ceil(probes * max(1, self._all.count) / max(1, chosen.count))
        coarse = self._lists.facts.bytes_per_number == 1
        scores, ids = self._lists.nearest(queries, k + RERANKED * coarse, probes, chosen)
        hits = []
        for query, own_scores, own_ids in zip(queries, scores, ids, strict=True):
            there = own_ids >= 0
            rows = self._names.take(pa.array(self._place[own_ids[there]]))
            exact = self._rerank(query, rows) if coarse else own_scores[there]
            hits.append(merge_hits([_hits(rows, exact)], k))
        fresh = self._search_fresh(queries, k, allowed)
        return [merge_hits(list(pair), k) for pair in zip(hits, fresh, strict=True)]

    def _rerank(self, query: Vectors, rows: pa.Table) -> np.ndarray:
        """Compute the exact scores of some rows, float32 [n], from the vectors in the table."""
        scores = np.zeros(rows.num_rows, np.float32)
        parts = np.array(rows["part"].to_pylist())
        places = rows["row"].to_numpy()
        for block in read_blocks(self._storage, sorted(set(parts.tolist())), self._cache):
            own = parts == block.path
            vectors = block.vectors[places[own]] * block.scale[places[own], None]
            scores[own] = vectors @ query
        return scores

    def _search_fresh(self, queries: Vectors, k: int, allowed: Allowed) -> list[pa.Table]:
        if not self.fresh_parts:
            return [HITS.empty_table() for _ in queries]
        size = 4 * self._lists.facts.dimension * self.standing.fresh.num_rows
        if size > _SMALL_BYTES:
            return search_blocks(queries, self._fresh_blocks(), k, allowed)
        if self._small is None:
            self._small = list(self._fresh_blocks())
        return search_blocks(queries, self._small, k, allowed)

    def _fresh_blocks(self) -> Iterator[Block]:
        """Yield the rows that the index lacks."""
        fresh = self.standing.fresh["uri"].combine_chunks()
        for block in read_blocks(self._storage, self.fresh_parts, self._cache):
            yield block.only(pc.is_in(block.rows["uri"], value_set=fresh).to_numpy())


def _hits(rows: pa.Table, scores: np.ndarray) -> pa.Table:
    columns = [rows["uri"], pa.array(scores, pa.float32()), rows["label"]]
    return pa.table(columns, schema=HITS)
