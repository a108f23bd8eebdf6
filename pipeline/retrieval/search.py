"""Search from Python: ``pipeline.search("features", image="photo.jpg")``."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from os import PathLike, fspath

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrieval.query import Query
from pipeline.retrieval.searcher import SearchConfig, Searcher
from transforms.errors import UserError
from transforms.parts.vectors import Vectors
from transforms.storage import local_path

# More hits than a person or a page can look at.
MAX_K = 10_000


def search(
    output: str | PathLike[str],
    query: Query | None = None,
    *,
    image: str | PathLike[str] | None = None,
    uri: str | None = None,
    text: str | None = None,
    where: str | None = None,
    k: int = 20,
    config: SearchConfig | None = None,
) -> pa.Table:
    """Find the images of a table that are most similar to a photo, or to one of its rows.

    The vectors that one call reads stay in memory for the next call, up to
    ``SearchConfig.cache_bytes``.

    Args:
        output: Folder or URL of the tables.
        query: What to search for; or one of the next three.
        image: Path or URL of a photo.
        uri: A row's uri. The row itself is then the first result, if it meets ``where``.
        text: Words, for a backbone with a text tower.
        where: A condition in DuckDB's SQL over the table's columns, which the results meet.
        k: Max number of results.
        config: Which table and version, and how.

    Returns:
        uri (string), score (float32, the cosine) and label (string), best first.

    Raises:
        UserError: A mistake in the arguments; or no run has published there.
        Damaged: A part of the table is missing, or does not hold what was written.
        StorageError: The output cannot be read, or the network in it is damaged.
    """
    if not 1 <= k <= MAX_K:
        raise UserError(f"-k {k}: must be from 1 to {MAX_K:,}")
    query = query or Query(None if image is None else fspath(image), uri, text)
    searcher = open_searcher(fspath(output), config or SearchConfig())
    searcher.refresh()
    vector = searcher.vector(query)
    hits = searcher.nearest(vector, k, where)[0]
    return hits if query.uri is None else _own_first(searcher, vector, hits, query.uri, k, where)


def _own_first(
    searcher: Searcher, vector: Vectors, hits: pa.Table, uri: str, k: int, where: str | None
) -> pa.Table:
    """Put the row that was searched for first: others may have the same vector, even k of them."""
    is_own = pc.equal(hits["uri"], uri)
    own = hits.filter(is_own)
    # Without DuckDB, which a condition needs, the row may be missing among as many equal ones.
    if not own.num_rows and find_spec("duckdb"):
        same = "uri = '" + uri.replace("'", "''") + "'"
        # The condition may end with a comment.
        both = same if where is None else f"{same} AND ({where}\n)"
        own = searcher.nearest(vector, 1, both)[0]
    return pa.concat_tables([own, hits.filter(pc.invert(is_own))]).slice(0, k).combine_chunks()


def open_searcher(output: str, config: SearchConfig) -> Searcher:
    """Open a table to search in, or return the one that the last call opened.

    Raises:
        UserError: No run has published there.
        StorageError: The output cannot be read.
    """
    # A relative path means another folder when the process has gone to another one.
    folder = local_path(output)
    return _opened(output if folder is None else str(folder), config)


# Each may hold ``SearchConfig.cache_bytes``, so only the last one stays.
@lru_cache(maxsize=1)
def _opened(output: str, config: SearchConfig) -> Searcher:
    return Searcher(output, config)
