"""The part of FAISS that the index uses: inverted lists of scalar-quantized vectors.

The parameters were measured on vectors of real photos; see docs/search.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transforms.errors import UserError
from transforms.extras import install_command
from transforms.parts.vectors import Vectors

_MIN_LISTS, _MAX_LISTS = 256, 4096
# FAISS' own bounds: fewer rows give poor cells, more cost time.
_MIN_ROWS_PER_LIST, ROWS_PER_LIST = 39, 64
_ROUNDS = 10
# Rows that a query must look at to be shared among the cores, which takes 3 ms on one. On a busy
# machine the cores wait for each other: sharing 1,000 rows took 10 ms instead of 2.4.
_SHARED = 4000
_SEED = 2026
_KINDS = {2: "SQfp16", 1: "SQ8"}
Ids = np.ndarray  # int64 [n]


def faiss() -> Any:
    """Import FAISS.

    Raises:
        UserError: It is not installed.
    """
    try:
        import faiss as module
    except ImportError as error:
        raise UserError(f"an index needs FAISS. {install_command('search')}") from error
    return module


def lists_for(rows: int) -> int:
    """Return the number of cells for a number of rows: a power of 2 near 4·√rows.

    A small table gets fewer than 256, so that each cell has enough rows to be trained on.
    """
    wanted: int = 2 ** round(math.log2(max(1.0, 4 * math.sqrt(rows))))
    wanted = min(max(wanted, _MIN_LISTS), _MAX_LISTS)
    return max(1, min(wanted, rows // _MIN_ROWS_PER_LIST))


def fewest_probes(lists: int) -> int:
    """Return how many cells a search looks into at least."""
    return min(lists, 16)


def most_probes(lists: int) -> int:
    """Return how many cells a search looks into by default at most: 1 of 64."""
    return min(lists, max(16, lists // 64))


def train(sample: Vectors, lists: int, bytes_per_number: int) -> Any:
    """Choose the cells, and return an index without rows.

    Args:
        sample: Vectors of length 1, float32 [n, D].
        lists: Number of cells.
        bytes_per_number: 2 or 1.
    """
    kind = f"IVF{lists},{_KINDS[bytes_per_number]}"
    module = faiss()
    index = module.index_factory(sample.shape[1], kind, module.METRIC_INNER_PRODUCT)
    index.cp.niter = _ROUNDS
    index.cp.max_points_per_centroid = ROWS_PER_LIST
    index.cp.min_points_per_centroid = 1
    index.cp.seed = _SEED
    index.train(sample)
    return index


def empty_like(trained: Any) -> Any:
    """Return an index without rows that has the cells of another one."""
    module = faiss()
    # All is copied but the rows, which may lie in a mapped file.
    quantizer = module.clone_index(trained.quantizer)
    kinds = (trained.sq.qtype, trained.metric_type, trained.by_residual)
    copy = module.IndexIVFScalarQuantizer(quantizer, trained.d, trained.nlist, *kinds)
    copy.own_fields = True
    quantizer.this.disown()
    module.copy_array_to_vector(module.vector_to_array(trained.sq.trained), copy.sq.trained)
    copy.is_trained = True
    return copy


def read(path: Path, mapped: bool = True) -> Any:
    """Open an index file; mapped, it takes no memory but for the lists that are searched.

    Raises:
        RuntimeError: FAISS cannot read it.
    """
    module = faiss()
    return module.read_index(str(path), module.IO_FLAG_MMAP_IFC if mapped else 0)


def write(index: Any, path: Path) -> None:
    """Write an index file; raise ``RuntimeError`` when that fails."""
    faiss().write_index(index, str(path))


def add(index: Any, vectors: Vectors, ids: Ids) -> None:
    """Add vectors of length 1, float32 [n, D], with their ids, int64 [n]."""
    index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids, np.int64))


def remove(index: Any, ids: Ids) -> None:
    """Remove ids from an index in memory."""
    if len(ids):
        index.remove_ids(np.ascontiguousarray(ids, np.int64))


def merge(index: Any, other: Any) -> None:
    """Move all rows of an index in memory to another one that has the same cells."""
    index.merge_from(other, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The ids that may be found."""

    bits: np.ndarray  # uint8: a bit for each id
    length: int  # number of ids, found or not
    count: int  # of those that may be found

    @classmethod
    def of(cls, mask: np.ndarray) -> Chosen:
        """Choose by bool [number of ids]."""
        return cls(np.packbits(mask, bitorder="little"), len(mask), int(np.count_nonzero(mask)))


def search(
    indexes: Sequence[Any], queries: Vectors, k: int, probes: int, chosen: Chosen
) -> tuple[np.ndarray, Ids]:
    """Search indexes that share their cells.

    Args:
        indexes: The indexes; the cells are those of the first one.
        queries: Vectors of length 1, float32 [m, D].
        k: Max number of hits from each index.
        probes: How many cells to look into.
        chosen: The ids that may be found.

    Returns:
        Scores float32 and ids int64, both [m, k × indexes] and unordered; the id is -1 where there
        is no further hit.
    """
    module = faiss()
    selector = module.IDSelectorBitmap(len(chosen.bits), module.swig_ptr(chosen.bits))
    first = indexes[0]
    nearness, cells = first.quantizer.search(queries, min(probes, first.nlist))
    options = module.SearchParametersIVF(nprobe=cells.shape[1], sel=selector)
    places = (module.swig_ptr(queries), k, module.swig_ptr(cells), module.swig_ptr(nearness))
    scores = np.full((len(indexes), len(queries), k), -np.inf, np.float32)
    ids = np.full((len(indexes), len(queries), k), -1, np.int64)
    for index, own_scores, own_ids in zip(indexes, scores, ids, strict=True):
        rows = index.ntotal * cells.shape[1] // index.nlist
        # A single query is shared among the cores by its cells.
        index.parallel_mode = int(len(queries) == 1 and rows >= _SHARED)
        own = (module.swig_ptr(own_scores), module.swig_ptr(own_ids))
        # The wrapper of this call for numpy takes no options.
        index.search_preassigned_c(len(queries), *places, *own, False, options)
    return np.concatenate(scores, axis=1), np.concatenate(ids, axis=1)
