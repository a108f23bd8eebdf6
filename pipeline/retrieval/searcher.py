"""Search one table again and again: what was read once is kept for the next search."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.indexing.files import IndexDamaged
from pipeline.indexing.opening import open_view
from pipeline.retrieval.blocks import Cache, read_blocks
from pipeline.retrieval.exact import Allowed, normalize, search_blocks
from pipeline.retrieval.query import (
    Embedder,
    Query,
    vector_of_photo,
    vector_of_row,
    words_vector,
)
from pipeline.retrieval.thumbnails import thumbnails
from pipeline.retrieval.where import matching_uris
from pipeline.tables import Tables
from pipeline.tables.table import Table
from transforms.containers.index import Indexes
from transforms.errors import ImageError, UserError
from transforms.parts.vectors import Vectors
from transforms.recipe import Recipe
from transforms.records import REFERENCE_SCHEMA, references_of
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# 200,000 vectors of 1280 take 1.05 GB. Rows beyond are read again for each search.
CACHE_BYTES = 1200 << 20


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Which table to search, and how."""

    stores: Stores = ()  # where buckets are
    table: str = ""  # name of the pair of tables; "" for the first one
    version: int | None = None  # of the features table; None for the newest
    cache_bytes: int = CACHE_BYTES  # of vectors that stay in memory between searches
    exact: bool = False  # compare with every row, whether or not there is an index
    effort: int | None = None  # cells of the index to look into; None for the default
    # The preset whose tower for texts gives the vector of words, as ``extract`` had it.
    backbone: str | None = None

    def __post_init__(self) -> None:
        if self.effort is not None and self.effort < 1:
            raise UserError(f"--effort {self.effort}: must be 1 or more")


class Searcher:
    """Searches one version of a features table; ``refresh`` goes on to the newest one.

    Safe for threads: searches take turns, since each of them takes all cores.

    Args:
        output: Folder or URL of the tables.
        config: Which table, and how.

    Raises:
        UserError: No run has published there, or there is no such version.
        StorageError: The output cannot be read.
    """

    def __init__(self, output: str, config: SearchConfig | None = None) -> None:
        self.config = config or SearchConfig()
        self.storage = open_storage(output, self.config.stores)
        self._cache = Cache(self.config.cache_bytes)
        self._lock = threading.RLock()
        self._recipe: tuple[str, Recipe] | None = None
        newest = Tables.published(self.storage, self.config.table).features
        self._open(newest if self.config.version is None else _at(newest, self.config.version))

    def _open(self, table: Table) -> None:
        self.table = table
        parts = table.parts
        self.rows = sum(part["num_records"] for part in parts)
        self._paths = sorted(str(part["path"]) for part in parts)
        self._cache.keep_only(self._paths)
        self.view = None if self.config.exact else open_view(self.storage, table, self._cache)
        how = f"with the {self.view}" if self.view else f"exactly, in {self.rows:,} rows"
        _LOG.info("searching version %s of %s %s", table.version, table.url, how)

    def refresh(self) -> None:
        """Go on to the newest version, or to the one that the configuration names.

        That may be another one of the same number, when the table was replaced.

        Raises:
            UserError: The table is not there any more.
            StorageError: The output cannot be read.
        """
        newest = self.table.newest()
        if newest.version is None:
            raise UserError(f"{newest.url} is not there any more")
        wanted = self.config.version
        table = newest if wanted is None else _at(newest, wanted)
        with self._lock:
            if not table.is_same(self.table):
                self._open(table)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the rows.

        Raises:
            UserError: The table has no rows.
            Damaged: The part that was asked for it is damaged.
        """
        known = self.table.recipe_id
        if self._recipe is None or self._recipe[0] != known:
            recipe = self.table.recipe()
            if recipe is None:
                raise UserError(f"{self.table.url} has no rows to search in")
            self._recipe = (known, recipe)
        return self._recipe[1]

    def vector(self, query: Query) -> Vectors:
        """Return the vector to search with: float32 [D].

        Raises:
            UserError: The photo cannot be read, there is no such row, the backbone has no text
                tower, or the table has no rows.
            StorageError: The network is missing or damaged.
        """
        if query.uri is not None:
            return vector_of_row(self.table, query.uri)
        if query.text is not None:
            config = self.config
            return words_vector(self.recipe, query.text, config.backbone, config.stores)
        embedder = Embedder.of(self.storage, self.recipe)
        return vector_of_photo(embedder, query.image or "", self.config.stores)

    def nearest(
        self,
        vectors: Vectors,
        k: int = 20,
        where: str | None = None,
        allowed: pa.ChunkedArray | None = None,
    ) -> list[pa.Table]:
        """Find the rows with the highest cosine.

        Args:
            vectors: float32 [m, D], of any length but 0.
            k: Max number of rows for each vector.
            where: A condition in DuckDB's SQL that the rows meet.
            allowed: The uris of rows that may be found, strings [n], unless ``where`` is given.

        Returns:
            For each vector a table of uri, score (the cosine, float32) and label, best first.

        Raises:
            UserError: The condition is invalid.
            Damaged: A part is missing, or does not hold what was written.
        """
        queries = normalize(np.atleast_2d(vectors))
        uris = allowed.combine_chunks() if allowed is not None else None
        rows = Allowed(uris if where is None else matching_uris(self.table, where))
        with self._lock:
            if self.view:
                try:
                    return self.view.search(queries, k, rows, self.config.effort)
                except IndexDamaged as error:
                    _LOG.warning("%s; the search is exact instead", error)
                    self.view = None
            blocks = read_blocks(self.table.storage, self._paths, self._cache)
            return search_blocks(queries, blocks, k, rows)

    def thumbnails(self, uris: Sequence[str]) -> Iterator[bytes | ImageError]:
        """Yield a JPEG for the image of each row, or why there is none.

        Args:
            uris: Of rows of the table; an image that is no row is never read.

        Raises:
            Damaged: A part is missing, or does not hold what was written.
            StorageError: A container cannot be read.
        """
        wanted = pc.field("uri").isin(pa.array(uris, pa.string()))
        rows = self.table.read(REFERENCE_SCHEMA.names, where=wanted)
        known = {reference.uri: reference for reference in references_of(rows)}
        missing = [uri for uri in uris if uri not in known]
        if missing:
            raise UserError(f"{missing[0]!r} is no row of {self.table.url}")
        indexes = Indexes(self.storage, write=False)
        return thumbnails([known[uri] for uri in uris], self.config.stores, indexes)


def _at(newest: Table, version: int) -> Table:
    """Open an earlier version; raise ``UserError`` when there is none of this number."""
    if not 0 <= version <= (newest.version or 0):
        raise UserError(f"no version {version} of {newest.url}: the newest is {newest.version}")
    return newest.at(version)
