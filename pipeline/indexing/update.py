"""Update an index: add the rows of new parts, and leave removed rows out."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.indexing import ivf
from pipeline.indexing.draft import Draft, names_of
from pipeline.indexing.files import IndexDamaged, fetch_file
from pipeline.indexing.held import Held
from pipeline.indexing.opening import OpenIndex
from pipeline.indexing.rows import Standing, compare
from pipeline.retrieval.blocks import read_blocks
from pipeline.tables.table import Table
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)
# An update that falls below makes the index anew.
MIN_RECALL = 0.98
# Rows against the rows that the cells were chosen for.
_MAX_GROWTH = 2
# Added rows go to a small file. It joins the large one when it has this share of its rows.
_MAX_ADDED = 1 / 8
# The large file is written again when this share of its rows is gone.
_MAX_REMOVED = 1 / 4


def update(
    storage: Storage, table: Table, opened: OpenIndex, bytes_per_number: int | None
) -> Draft | None:
    """Update an index.

    Args:
        storage: Folder of the tables.
        table: The features table.
        opened: The index.
        bytes_per_number: What is asked for; None for any.

    Returns:
        The updated index, with the same facts when nothing is to be done. None when the index has
        to be made anew; the log says why.

    Raises:
        Damaged: A part of the table cannot be read.
        StorageError: The bucket does not answer.
    """
    facts = opened.facts
    standing = compare(opened.names, table)
    try:
        held = Held.read(fetch_file(storage, facts, facts.held))
    except (IndexDamaged, ValueError, OSError) as error:
        _LOG.warning("%s; the index is made anew", error)
        return None
    if bytes_per_number not in (None, facts.bytes_per_number):
        _LOG.info("the index has %d bytes a number: made anew", facts.bytes_per_number)
        return None
    if standing.rows > _MAX_GROWTH * facts.trained_on:
        _LOG.info("the rows have doubled since the cells were chosen: made anew")
        return None
    if facts.version == table.version and not standing.fresh.num_rows:
        return Draft(facts, facts.vectors, opened.lists.indexes, opened.names, held, 0, 0)
    draft = _with_changes(storage, table, opened, standing, held).with_recall()
    if draft.facts.recall < MIN_RECALL:
        _LOG.info("the recall has fallen to %.4f: made anew", draft.facts.recall)
        return None
    return draft


def _with_changes(
    storage: Storage, table: Table, opened: OpenIndex, standing: Standing, held: Held
) -> Draft:
    """Return an index with the rows of the table's version."""
    facts = opened.facts
    names, added = [standing.kept], None
    next_id = facts.next_id
    held.remove(standing.removed)
    if standing.fresh.num_rows:
        added = _added(storage, opened, standing.removed)
        fresh = {str(uri) for uri in standing.fresh["uri"].to_pylist()}
        parts = sorted(set(standing.fresh["part"].to_pylist()))
        for block in read_blocks(table.storage, parts):
            is_fresh = np.array([uri in fresh for uri in block.rows["uri"].to_pylist()])
            ids = np.full(len(is_fresh), -1, np.int64)
            ids[is_fresh] = np.arange(next_id, next_id + int(is_fresh.sum()))
            next_id += int(is_fresh.sum())
            vectors = block.normalized()[is_fresh]
            ivf.add(added, vectors, ids[is_fresh])
            held.add(vectors, ids[is_fresh])
            names.append(names_of(block, ids).filter(pa.array(is_fresh)))
    all_names = pa.concat_tables(names)
    new_facts = replace(facts, version=table.version or 0, rows=all_names.num_rows, next_id=next_id)
    large = opened.lists.indexes[0]
    gone = (
        large.ntotal + (added.ntotal if added is not None else _small(opened)) - all_names.num_rows
    )
    counts = (standing.fresh.num_rows, len(standing.removed))
    too_many = added is not None and added.ntotal > _MAX_ADDED * large.ntotal
    if too_many or gone > _MAX_REMOVED * large.ntotal:
        merged = _merged(storage, opened, added, all_names)
        return Draft(new_facts, (), (merged,), all_names, held, *counts)
    if added is None:
        kept = facts.vectors
        return Draft(new_facts, kept, opened.lists.indexes, all_names, held, *counts)
    return Draft(new_facts, facts.vectors[:1], (large, added), all_names, held, *counts)


def _small(opened: OpenIndex) -> int:
    """Return the number of rows in the small file."""
    return sum(index.ntotal for index in opened.lists.indexes[1:])


def _added(storage: Storage, opened: OpenIndex, removed: np.ndarray) -> Any:
    """Return the small index in memory, without the removed rows; an empty one if there is none."""
    facts = opened.facts
    if len(facts.vectors) == 1:
        return ivf.empty_like(opened.lists.indexes[0])
    small = ivf.read(fetch_file(storage, facts, facts.vectors[1]), mapped=False)
    ivf.remove(small, removed)
    return small


def _merged(storage: Storage, opened: OpenIndex, added: Any | None, names: pa.Table) -> Any:
    """Return one index with all rows, in memory."""
    facts = opened.facts
    large = ivf.read(fetch_file(storage, facts, facts.vectors[0]), mapped=False)
    if added is None and len(facts.vectors) > 1:
        added = ivf.read(fetch_file(storage, facts, facts.vectors[1]), mapped=False)
    if added is not None:
        ivf.merge(large, added)
    alive = np.zeros(facts.next_id, bool)
    ids = names["id"].to_numpy()
    alive[ids[ids < facts.next_id]] = True
    ivf.remove(large, np.flatnonzero(~alive))
    return large
