"""Open the newest index that fits a table; without one, search goes on exactly."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.indexing import ivf
from pipeline.indexing.facts import IndexFacts, fits, read_all_facts
from pipeline.indexing.files import IndexDamaged, fetch_file, forget_others
from pipeline.indexing.rows import ROW_NAMES, compare
from pipeline.indexing.view import Lists, View
from pipeline.retrieval.blocks import Cache
from pipeline.tables.table import Table
from transforms.errors import UserError, first_line
from transforms.storage import Storage, StorageError

_LOG = logging.getLogger(__name__)
_INSTEAD = "the search is exact instead; 'image-features index OUTPUT' makes the index anew"


@dataclass(frozen=True, slots=True, eq=False)
class OpenIndex:
    """An index whose files are on this machine."""

    lists: Lists
    names: pa.Table  # ROW_NAMES, sorted by id

    @property
    def facts(self) -> IndexFacts:
        """What the index says of itself."""
        return self.lists.facts


def open_view(output: Storage, table: Table, cache: Cache) -> View | None:
    """Open the newest index that fits a table, as it stands to the table's version.

    Args:
        output: Folder of the tables.
        table: The features table.
        cache: Of blocks of the table.

    Returns:
        The view; None without an index that can be used. The log says why one cannot be.

    Raises:
        Damaged: A part of the table cannot be read.
        StorageError: The bucket does not answer.
    """
    opened = open_index(output, table)
    if opened is None:
        return None
    return View(table.storage, opened.lists, compare(opened.names, table), cache)


def open_index(output: Storage, table: Table) -> OpenIndex | None:
    """Open the newest index that fits a table; None, and a word in the log, if there is none.

    An index of a later version than the table's is right too, only slower.
    """
    fitting = list(_fitting(output, table)) if table.recipe_id else []
    # The newest one up to the table's version, which has the fewest differences.
    fitting.sort(key=lambda facts: facts.version <= (table.version or 0), reverse=True)
    for facts in fitting:
        try:
            return load_index(output, facts)
        except UserError as error:
            _LOG.warning("%s; the search is exact without it", error)
            return None
        except (IndexDamaged, StorageError) as error:
            _LOG.warning("%s; %s", error, _INSTEAD)
    return None


def load_index(output: Storage, facts: IndexFacts) -> OpenIndex:
    """Map the vectors of an index into memory, and read its rows.

    Raises:
        IndexDamaged: A file is missing, or is not what was written.
        UserError: FAISS is not installed.
        StorageError: The bucket does not answer, or the cache is full.
    """
    ivf.faiss()
    paths = {file.name: fetch_file(output, facts, file) for file in facts.files}
    try:
        indexes = [ivf.read(paths[file.name]) for file in facts.vectors]
        names = pq.read_table(paths[facts.row_names.name], page_checksum_verification=True)
    except (RuntimeError, OSError, pa.ArrowException) as error:
        raise IndexDamaged(f"{output.url}/{facts.key}: {first_line(error)}") from error
    shapes = {(index.d, index.nlist) for index in indexes}
    if names.schema != ROW_NAMES or shapes != {(facts.dimension, facts.lists)}:
        raise IndexDamaged(f"{output.url}/{facts.key}: its files do not belong together")
    forget_others(facts)
    return OpenIndex(Lists(indexes, facts), names)


def _fitting(output: Storage, table: Table) -> Iterator[IndexFacts]:
    """Yield the facts of the indexes that stand for rows of this table, newest first."""
    for facts in read_all_facts(output, table.name):
        if isinstance(facts, str):
            _LOG.warning("%s; %s", facts, _INSTEAD)
        elif fits(facts, table):
            yield facts
        else:
            same = facts.table_id == table.table_id
            why = "was made with another recipe" if same else "is of another table"
            _LOG.warning("%s/%s %s, and is not used", output.url, facts.key, why)
