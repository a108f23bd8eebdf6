"""``image-features index``: make the index of a table, or update the one that is there."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from os import PathLike, fspath

from pipeline.indexing import ivf
from pipeline.indexing.facts import IndexFacts
from pipeline.indexing.held import AT
from pipeline.indexing.make import make
from pipeline.indexing.opening import open_index
from pipeline.indexing.update import update
from pipeline.reports.text import counted, size_text
from pipeline.tables import Tables
from transforms.errors import UserError
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# Below, an exact search takes 0.1 s from memory, and 3 s from the disk.
ENOUGH_WITHOUT = 200_000


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """Which table to index, and how."""

    stores: Stores = ()  # where buckets are
    table: str = ""  # name of the pair of tables; "" for the first one
    bytes_per_number: int | None = None  # 2 or 1; None keeps what is there, or takes 2
    rebuild: bool = False  # make it anew, whatever is there

    def __post_init__(self) -> None:
        if self.bytes_per_number not in (None, 1, 2):
            raise UserError(f"--index-bytes {self.bytes_per_number}: must be 2 or 1")


@dataclass(frozen=True, slots=True)
class IndexResult:
    """What was done, and the index that is there now."""

    output: str
    facts: IndexFacts
    done: str  # made, made anew, updated, unchanged
    added: int  # rows
    removed: int
    queries: int  # that the recall was measured with
    seconds: float

    def __str__(self) -> str:
        facts = self.facts
        size = size_text(sum(file.size for file in facts.files))
        cells = counted(facts.lists, "cell")
        lines = [
            f"{self.done}: index of version {facts.version} of {self.output}/{facts.table}, "
            f"{facts.rows:,} rows in {cells}, {size}; added {self.added:,}, "
            f"removed {self.removed:,}; {self.seconds:.1f} s",
            f"recall@{AT} {facts.recall:.4f}, of {self.queries:,} held queries against exact "
            "search",
        ]
        if facts.rows < ENOUGH_WITHOUT:
            lines.append(
                f"below {ENOUGH_WITHOUT:,} rows an exact search takes 3 seconds at most: an index "
                "gains little there"
            )
        return "\n".join(lines)


def index(output: str | PathLike[str], config: IndexConfig | None = None) -> IndexResult:
    """Make the index of a table's newest version, or update the one that is there.

    An update adds the new rows and leaves the removed ones out. The index is made anew when its
    recall falls below 0.98, when the rows have doubled, or when it does not fit the table any more.
    The index is whole or is not there at any moment, and no run waits for it.

    Args:
        output: Folder or URL of the tables.
        config: Which table, and how.

    Raises:
        UserError: No run has published there, the table has no rows, or FAISS is not installed.
        Damaged: A part of the table cannot be read.
        StorageError: The index cannot be written.
    """
    started = time.monotonic()
    ivf.faiss()
    config = config or IndexConfig()
    storage = open_storage(fspath(output), config.stores)
    table = Tables.published(storage, config.table).features
    opened = None if config.rebuild else open_index(storage, table)
    draft = update(storage, table, opened, config.bytes_per_number) if opened else None
    done = "updated"
    if draft is None:
        done = "made anew" if opened or config.rebuild else "made"
        draft = make(table, config.bytes_per_number or 2).with_recall()
    elif opened and draft.facts == opened.facts:
        done = "unchanged"
    facts = draft.facts if done == "unchanged" else draft.save(storage)
    return IndexResult(
        output=fspath(output).rstrip("/"),
        facts=facts,
        done=done,
        added=draft.added,
        removed=draft.removed,
        queries=len(draft.held.queries),
        seconds=time.monotonic() - started,
    )
