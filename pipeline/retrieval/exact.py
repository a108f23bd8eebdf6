"""Search exactly: compare a query with every vector, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrieval.blocks import Block, scale_of
from transforms.parts.vectors import Vectors

# uri, score (the cosine) and label of the rows that were found, best first.
HITS = pa.schema([("uri", pa.string()), ("score", pa.float32()), ("label", pa.string())])


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which rows may be found."""

    # None for all; the keys are unique.
    uris: pa.Array | None = None

    def mask(self, uris: pa.ChunkedArray) -> np.ndarray | None:
        """Tell of each uri [n] whether its row may be found: bool [n]; None for all."""
        if self.uris is None:
            return None
        mask: np.ndarray = pc.is_in(uris, value_set=self.uris).to_numpy()
        return mask


def normalize(queries: Vectors) -> Vectors:
    """Return queries [m, D] divided by their lengths: float32 [m, D], C-contiguous."""
    queries = np.ascontiguousarray(queries, np.float32)
    return queries * scale_of(queries)[:, None]


def search_blocks(
    queries: Vectors, blocks: Iterable[Block], k: int, allowed: Allowed | None = None
) -> list[pa.Table]:
    """Find the k nearest rows of each query by cosine.

    Args:
        queries: float32 [m, D] of length 1.
        blocks: The rows to search in.
        k: Max number of rows for each query.
        allowed: Which rows may be found; None for all.

    Returns:
        For each query its hits (HITS), best first; rows with equal scores are sorted by uri.
    """
    allowed = allowed or Allowed()
    found: list[list[pa.Table]] = [[] for _ in queries]
    # The k-th best score so far: no row below it can be among the hits.
    floor = np.full(len(queries), -np.inf, np.float32)
    for block in blocks:
        scores = (block.vectors @ queries.T) * block.scale[:, None]
        mask = allowed.mask(block.rows["uri"])
        if mask is not None:
            scores[~mask] = -np.inf
        for number, column in enumerate(scores.T):
            places = _best(column, k, floor[number])
            if len(places):
                found[number].append(_rows(block, places, column[places]))
                if len(found[number]) > _PENDING:
                    found[number] = [merge_hits(found[number], k)]
                    floor[number] = _floor(found[number][0], k)
    return [merge_hits(tables, k) for tables in found]


# Tables of hits that are merged at once.
_PENDING = 8


def merge_hits(tables: list[pa.Table], k: int) -> pa.Table:
    """Return the k best of several tables of hits (HITS), best first."""
    if not tables:
        return HITS.empty_table()
    hits = pa.concat_tables(tables)
    order = pc.sort_indices(hits, [("score", "descending"), ("uri", "ascending")])
    return hits.take(order[:k]).combine_chunks()


def _best(scores: np.ndarray, k: int, floor: np.float32) -> np.ndarray:
    """Return the places of the scores [n] among the k highest, but none below ``floor``."""
    places = np.flatnonzero((scores >= floor) & (scores > -np.inf))
    if len(places) > k:
        places = places[np.argpartition(scores[places], -k)[-k:]]
    return places


def _rows(block: Block, places: np.ndarray, scores: np.ndarray) -> pa.Table:
    rows = block.rows.select(["uri", "label"]).take(pa.array(places))
    rows = rows.add_column(1, HITS.field("score"), pa.array(scores, pa.float32()))
    return rows.cast(HITS)


def _floor(hits: pa.Table, k: int) -> float:
    return hits["score"][k - 1].as_py() if hits.num_rows >= k else -np.inf
