"""Make an index anew: choose its cells, and then add all rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipeline.indexing import ivf
from pipeline.indexing.draft import Draft, names_of
from pipeline.indexing.facts import NO_FILE, IndexFacts
from pipeline.indexing.held import QUERIES, Held
from pipeline.retrieval.blocks import Block, read_blocks
from pipeline.tables.table import Table
from transforms.errors import UserError
from transforms.parts.vectors import Vectors

_SEED = 2026


def make(table: Table, bytes_per_number: int) -> Draft:
    """Make an index of all rows, in memory.

    Args:
        table: The features table.
        bytes_per_number: 2 or 1.

    Raises:
        UserError: The table has no rows.
        Damaged: A part cannot be read.
    """
    parts = sorted(str(part["path"]) for part in table.parts)
    rows = sum(part["num_records"] for part in table.parts)
    if not rows:
        raise UserError(f"{table.url} has no rows to index")
    lists = ivf.lists_for(rows)
    sample, queries, own = _sample(table, parts, rows, lists)
    trained = ivf.train(sample, lists, bytes_per_number)
    del sample
    held = Held.of(queries, own)
    names = []
    for start, block in _numbered(table, parts):
        ids = np.arange(start, start + len(block.vectors))
        vectors = block.normalized()
        ivf.add(trained, vectors, ids)
        held.add(vectors, ids)
        names.append(names_of(block, ids))
    facts = IndexFacts(
        table=table.name,
        table_id=table.table_id,
        recipe=table.recipe_id,
        version=table.version or 0,
        rows=rows,
        dimension=int(trained.d),
        bytes_per_number=bytes_per_number,
        lists=lists,
        probes=ivf.fewest_probes(lists),
        trained_on=rows,
        next_id=rows,
        recall=0,
        vectors=(),
        row_names=NO_FILE,
        held=NO_FILE,
    )
    return Draft(facts, (), (trained,), pa.concat_tables(names), held, added=rows, removed=0)


def _sample(
    table: Table, parts: list[str], rows: int, lists: int
) -> tuple[Vectors, Vectors, np.ndarray]:
    """Draw vectors to choose the cells by, and held queries with their ids, from all rows."""
    queries = min(QUERIES, max(1, rows // 10))
    count = min(rows, lists * ivf.ROWS_PER_LIST + queries)
    random = np.random.default_rng(_SEED)
    chosen = random.choice(rows, count, replace=False)
    own = np.sort(chosen[:queries])
    # A table of one row is trained on it.
    training = np.sort(chosen[queries:]) if rows > 1 else own
    found: dict[str, list[Vectors]] = {"training": [], "own": []}
    for start, block in _numbered(table, parts):
        end = start + len(block.vectors)
        for name, numbers in (("training", training), ("own", own)):
            places = numbers[(numbers >= start) & (numbers < end)] - start
            found[name].append(block.vectors[places] * block.scale[places, None])
    return np.concatenate(found["training"]), np.concatenate(found["own"]), own


def _numbered(table: Table, parts: list[str]) -> Iterator[tuple[int, Block]]:
    """Yield each block, with the number of its first row."""
    start = 0
    for block in read_blocks(table.storage, parts):
        yield start, block
        start += len(block.vectors)
