"""What the page shows: the rows of both tables in their newest version, kept in memory."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrieval.query import Embedder, vector_of_row
from pipeline.retrieval.searcher import SearchConfig, Searcher
from pipeline.serve.filters import Filters
from pipeline.tables import Tables
from pipeline.tables.history import versions_of
from pipeline.tables.table import Table
from transforms.parts.vectors import Vectors
from transforms.records import REFERENCE_SCHEMA

# Of the features table: some 250 bytes a row in memory.
COLUMNS = (*REFERENCE_SCHEMA.names, "width", "height", "label", "score", "run_id")
FAILURE_COLUMNS = ("uri", "stage", "kind", "message", "attempts")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The tables of one version."""

    table: Table  # features
    rows: pa.Table  # COLUMNS, sorted by uri
    failures: pa.Table  # FAILURE_COLUMNS, sorted by uri
    newest_run: str  # the newest run that has rows; "" if there are none

    def row(self, uri: str) -> pa.Table | None:
        """Return the row of an image: COLUMNS [1]; None if there is none."""
        place = pc.index(self.rows["uri"], uri).as_py()
        return None if place < 0 else self.rows.slice(place, 1)

    def newest(self) -> pa.Table:
        """Return the rows of the newest run that has any."""
        return self.rows.filter(pc.equal(self.rows["run_id"], self.newest_run))


class Library:
    """Follows the tables of an output, and searches in them. Safe for threads.

    Args:
        output: Folder or URL of the tables.
        config: Which table, and how to search.
        check_seconds: How long a version is shown before a newer one is looked for.

    Raises:
        UserError: No run has published there.
        StorageError: The output cannot be read.
    """

    def __init__(self, output: str, config: SearchConfig, check_seconds: float = 5) -> None:
        self.searcher = Searcher(output, config)
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._embedder: tuple[str, Embedder] | None = None
        self._embed_lock = threading.Lock()
        self._view = self._read()
        self._checked = time.monotonic()

    def view(self) -> View:
        """Return the newest version.

        Raises:
            Damaged: A part cannot be read.
            StorageError: The output cannot be read.
        """
        with self._lock:
            if time.monotonic() - self._checked >= self._check_seconds:
                self.searcher.refresh()
                if not self.searcher.table.is_same(self._view.table):
                    self._view = self._read()
                self._checked = time.monotonic()
            return self._view

    def _read(self) -> View:
        table = self.searcher.table
        rows = table.read(COLUMNS).sort_by("uri").combine_chunks()
        errors = Tables.open(self.searcher.storage, self.searcher.config.table).errors
        failures = errors.read(FAILURE_COLUMNS).sort_by("uri")
        return View(table, rows, failures, _newest_run(table, rows))

    def similar(self, vector: Vectors, view: View, filters: Filters, k: int) -> pa.Table:
        """Return the rows nearest to a vector that meet the filters: uri, score and label.

        Args:
            vector: float32 [D].
            view: The rows that the filters are looked up in.
            filters: What the rows must meet.
            k: Max number of rows.

        Raises:
            UserError: A condition is invalid.
            Damaged: A part cannot be read.
        """
        allowed = None if filters.empty else filters.select(view.rows, view.table)["uri"]
        return self.searcher.nearest(vector, k, allowed=allowed)[0]

    def vector_of_row(self, view: View, uri: str) -> Vectors:
        """Return the stored vector of a row: float32 [D].

        Raises:
            UserError: There is no such row.
            Damaged: A part cannot be read.
        """
        return vector_of_row(view.table, uri)

    def vector_of_photo(self, data: bytes) -> Vectors:
        """Return the vector of an encoded image, by the recipe of the table: float32 [D].

        Raises:
            ImageError: It cannot be decoded.
            UserError: The table has no rows.
            StorageError: The network is missing or damaged.
        """
        # One at a time: the network takes all cores.
        with self._embed_lock:
            recipe_id = self.searcher.table.recipe_id
            if self._embedder is None or self._embedder[0] != recipe_id:
                made = Embedder.of(self.searcher.storage, self.searcher.recipe)
                self._embedder = (recipe_id, made)
            return self._embedder[1].vector(data)


def _newest_run(table: Table, rows: pa.Table) -> str:
    """Return the newest run that has rows, by the order of commits: a clock may be wrong."""
    there = set(pc.unique(rows["run_id"]).to_pylist())
    committed = (version.run_id for version in versions_of(table.history()))
    return next((run for run in committed if run in there), max(there, default=""))
