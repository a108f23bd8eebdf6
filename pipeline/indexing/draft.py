"""An index that is not saved yet, and how it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.indexing import ivf
from pipeline.indexing.facts import FileFacts, IndexFacts, encode_facts
from pipeline.indexing.files import save_file
from pipeline.indexing.held import AT, Held
from pipeline.indexing.rows import PLACES, ROW_NAMES
from pipeline.indexing.view import RERANKED, Lists
from pipeline.retrieval.blocks import Block
from transforms.parts.vectors import Vectors
from transforms.storage import Storage

# More cells are looked into while the recall is lower.
GOOD_RECALL = 0.998


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """An index in memory."""

    facts: IndexFacts
    # Files of ``indexes`` that are stored already: the first ones.
    stored: tuple[FileFacts, ...]
    indexes: Sequence[Any]
    names: pa.Table  # ROW_NAMES, in any order
    held: Held
    added: int  # rows, against the index before
    removed: int

    def with_recall(self) -> Draft:
        """Choose how many cells a search looks into: the fewest that give a good recall."""
        most = ivf.most_probes(self.facts.lists)
        probes = min(self.facts.probes, most)
        while (recall := self._recall(probes)) < GOOD_RECALL and probes < most:
            probes = min(2 * probes, most)
        return replace(self, facts=replace(self.facts, probes=probes, recall=recall))

    def _recall(self, probes: int) -> float:
        """Return the recall@10 of an index that is not saved yet."""
        facts = self.facts
        lists = Lists(self.indexes, facts)
        alive = np.zeros(facts.next_id, bool)
        alive[self.names["id"].to_numpy()] = True
        chosen = ivf.Chosen.of(alive)
        candidates = AT + RERANKED * (facts.bytes_per_number == 1)

        def search(queries: Vectors, k: int) -> np.ndarray:
            return lists.nearest(queries, k, probes, chosen)[1]

        return self.held.recall(search, candidates)

    def save(self, output: Storage) -> IndexFacts:
        """Write the files, and last the facts, which make them an index.

        Raises:
            StorageError: A file cannot be written.
        """
        table = self.facts.table
        new = [
            save_file(output, table, "vectors.faiss", partial(ivf.write, index))
            for index in self.indexes[len(self.stored) :]
        ]
        facts = replace(
            self.facts,
            vectors=(*self.stored, *new),
            row_names=save_file(output, table, "rows.parquet", self._write_names),
            held=save_file(output, table, "held.npz", self.held.write),
        )
        output.write(facts.key, encode_facts(facts))
        return facts

    def _write_names(self, path: Path) -> None:
        pq.write_table(
            self.names.sort_by("id"),
            path,
            compression="zstd",
            use_dictionary=["run_id", "label", "part"],
            write_page_checksum=True,
        )


def names_of(block: Block, ids: np.ndarray) -> pa.Table:
    """Return the rows of a block with their ids, int64 [n]: ROW_NAMES."""
    rows = block.rows.select(["uri", "run_id", "label"])
    rows = rows.append_column(PLACES.field("part"), pa.array([block.path] * rows.num_rows))
    rows = rows.append_column(PLACES.field("row"), pa.array(np.arange(rows.num_rows), pa.int32()))
    return rows.add_column(0, ROW_NAMES.field("id"), pa.array(ids, pa.int64())).cast(ROW_NAMES)
