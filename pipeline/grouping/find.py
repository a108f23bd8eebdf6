"""Find the near-duplicates of a table, or bring the groups that are there up to date."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.grouping.candidates import candidates
from pipeline.grouping.confirm import MAX_BITS, hamming
from pipeline.grouping.contents import Contents
from pipeline.grouping.stars import Edge, Member, stars
from pipeline.grouping.store import Done, Store
from pipeline.reports.text import counted
from pipeline.tables import Tables
from pipeline.tables.delta import row_ids
from pipeline.tables.table import Table
from transforms.errors import Damaged, UserError
from transforms.parts.vectors import Vectors
from transforms.records import GROUPS_SCHEMA
from transforms.storage import StorageError, open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# Contents that are compared with the table at once: 84 MB of vectors of 1280 numbers.
_QUERIES = 16_384


@dataclass(frozen=True, slots=True)
class DuplicatesConfig:
    """Which table, and which pairs become candidates."""

    stores: Stores = ()  # where buckets are
    table: str = ""  # name of the pair of tables; "" for the first one
    # The least cosine of a candidate. With 0.9 a quarter of the pictures encoded again as JPEG 50
    # were lost, with 0.7 hardly any: docs/search.md.
    cosine: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.cosine <= 1:
            raise UserError(f"--cosine {self.cosine}: must be above 0, and at most 1")


@dataclass(frozen=True, slots=True, eq=False)
class DuplicatesResult:
    """The groups, and what was done."""

    url: str
    version: int  # of the features table
    groups: pa.Table  # GROUPS_SCHEMA, sorted by group, the representative first
    compared: int  # contents that were new
    rows: int  # of the features table
    without_hash: int  # rows
    seconds: float

    def __str__(self) -> str:
        groups = counted(len(self.groups["group"].unique()), "group")
        lines = [
            f"compared {counted(self.compared, 'new content')} with version {self.version} of the "
            f"features in {self.seconds:.1f} s",
            f"{self.groups.num_rows:,} of {self.rows:,} images are in {groups}, "
            f"listed in {self.url}",
        ]
        if self.without_hash:
            lines.append(
                f"{self.without_hash:,} rows have no perceptual hash, since they were made before "
                "that column existed: only equal bytes count for them. extract --rebuild adds it."
            )
        return "\n".join(lines)


def duplicates(
    output: str | PathLike[str], config: DuplicatesConfig | None = None
) -> DuplicatesResult:
    """Find groups of near-duplicates, and write them to the table ``OUTPUT/duplicates``.

    Only contents that are new since the last call are compared. No image and no row of the
    features table is deleted.

    Args:
        output: Folder or URL of the tables.
        config: Which table, and how.

    Raises:
        UserError: No run has published there, another program's table is in the way, or a mistake
            in the configuration.
        Refused: Another call wrote groups in the meantime.
        Damaged: A part of the features table cannot be read.
        StorageError: The output cannot be read.
    """
    started = time.monotonic()
    config = config or DuplicatesConfig()
    storage = open_storage(fspath(output), config.stores)
    table = Tables.published(storage, config.table).features
    store = Store(storage, config.table)
    contents = Contents.read(table)
    done = Done.of(table, config.cosine)
    stored = _read(store)
    known, settled = _earlier(store, stored, table, contents, done)
    fresh = np.unique(contents.numbers[~settled[contents.numbers]])
    edges = list(_edges(table, contents, fresh, config.cosine))
    groups = _table(contents, stars(edges, known))
    if store.done() != done or groups != stored:
        store.replace(groups, done)
    return DuplicatesResult(
        store.url,
        done.version,
        groups,
        len(fresh),
        len(contents.numbers),
        int((~contents.hashed).sum()),
        time.monotonic() - started,
    )


def _read(store: Store) -> pa.Table | None:
    """Return the groups of before; None if they are damaged, which costs a new comparison."""
    try:
        return store.read()
    except Damaged:
        _LOG.warning("%s is damaged: making the groups anew", store.url)
        return None


def _earlier(
    store: Store, groups: pa.Table | None, table: Table, contents: Contents, done: Done
) -> tuple[dict[int, Member], np.ndarray]:
    """Return the groups that still hold, and which contents need no comparison: bool [n]."""
    nothing: dict[int, Member] = {}
    settled = np.zeros(len(contents.numbers), bool)
    earlier = store.done()
    if earlier is None or groups is None:
        return nothing, settled
    if (earlier.table_id, earlier.recipe, earlier.cosine) != (
        done.table_id, done.recipe, done.cosine,
    ):  # fmt: skip
        _LOG.warning(
            "%s was made from another table, recipe or --cosine: making it anew", store.url
        )
        return nothing, settled
    try:
        old = table.at(earlier.version)
        before = row_ids(old.read(["uri", "run_id"])) if earlier.stands_for(old) else None
        doubt = "may have been another one, as in a copy of the table"
    except (Damaged, StorageError):
        before, doubt = None, "cannot be read any more"
    if before is None:
        _LOG.warning(
            "version %s, whose groups %s holds, %s: making them anew",
            *(earlier.version, store.url, doubt),
        )
        return nothing, settled
    now = row_ids(pa.table({"uri": contents.uris, "run_id": contents.run_ids}))
    same = pc.is_in(now, value_set=before).to_numpy(zero_copy_only=False)
    np.logical_or.at(settled, contents.numbers, same)
    return _still(groups, contents, same, settled), settled


def _still(
    groups: pa.Table, contents: Contents, same: np.ndarray, settled: np.ndarray
) -> dict[int, Member]:
    """Return the groups whose representative is still there, without removed members.

    The members of a group that lost its representative are compared again: ``settled`` changes.
    """
    known: dict[int, Member] = {}
    places = pc.index_in(groups["uri"], value_set=contents.uris).to_pylist()
    heads = pc.index_in(groups["representative"], value_set=contents.uris).to_pylist()
    values = zip(places, heads, groups["cosine"].to_pylist(), groups["hamming"].to_pylist(),
                 strict=True)  # fmt: skip
    for place, head, cosine, bits in values:
        if place is None or not same[place]:
            continue
        content = int(contents.numbers[place])
        if head is None or not same[head]:
            settled[content] = False
        else:
            known[content] = (int(contents.numbers[head]), cosine, bits)
    return known


def _edges(table: Table, contents: Contents, fresh: np.ndarray, cosine: float) -> Iterator[Edge]:
    """Yield the confirmed pairs of the fresh contents."""
    everything = contents.hashed
    wanted = np.zeros(len(everything), bool)
    wanted[fresh] = True
    for numbers, queries in _chunks(contents.blocks(table, wanted & everything)):
        a, b, score = candidates(numbers, queries, contents.blocks(table, everything), cosine)
        bits = hamming(contents.hashes[a], contents.hashes[b])
        near = bits <= MAX_BITS
        columns = (a[near], b[near], np.minimum(score[near], 1), bits[near])
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _chunks(
    blocks: Iterator[tuple[np.ndarray, Vectors]],
) -> Iterator[tuple[np.ndarray, Vectors]]:
    """Join small blocks, so that the table is read once for many of them."""
    waiting: list[tuple[np.ndarray, Vectors]] = []
    for block in blocks:
        waiting.append(block)
        if sum(len(numbers) for numbers, _ in waiting) >= _QUERIES:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[tuple[np.ndarray, Vectors]]) -> tuple[np.ndarray, Vectors]:
    numbers, vectors = zip(*blocks, strict=True)
    return np.concatenate(numbers), np.concatenate(vectors)


def _table(contents: Contents, groups: dict[int, Member]) -> pa.Table:
    """Return the groups as rows (GROUPS_SCHEMA); images with equal bytes are a group too."""
    images: defaultdict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(contents.numbers.tolist()):
        images[number].append(row)
    uris = contents.uris.to_pylist()
    members = dict(groups)
    members.update({number: (number, 1.0, 0) for number in images if number not in groups})
    counts: defaultdict[int, int] = defaultdict(int)
    for content, (head, _, _) in members.items():
        counts[head] += len(images[content])
    rows = [
        (_group(uris[head]), uris[row], uris[head], cosine, bits)
        for content, (head, cosine, bits) in members.items()
        if counts[head] > 1
        for row in images[content]
    ]
    rows.sort(key=lambda row: (row[2], row[1] != row[2], row[1]))
    columns = zip(*rows, strict=True) if rows else [[] for _ in GROUPS_SCHEMA]
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, GROUPS_SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=GROUPS_SCHEMA)


def _group(representative: str) -> str:
    """Return the name of a group, which stays as long as its representative does."""
    return hashlib.sha256(representative.encode()).hexdigest()[:16]
