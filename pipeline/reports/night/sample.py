"""Draw rows of a table by the hash of their contents, and read the vectors of these alone."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reports.night.drift import Floats
from pipeline.retrieval.blocks import read_blocks
from pipeline.tables.table import Table
from transforms.storage import NotFound, Storage, StorageError

_LOG = logging.getLogger(__name__)
# Vectors of 1280 take 25 MB. A night of new content of 2 % is seen in 5,000 rows.
ROWS = 5_000
# Of the parts that are read for a sample: 700,000 rows, in 330 parts of the usual size. So a night
# costs no more on a table of a billion. Merged parts are larger, and a few would be a few folders.
_BYTES, _PARTS = 2 << 30, 50
# The reference is drawn anew when the table has grown by this factor.
_GROWTH = 2
FOLDER = "reference"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some rows of a table."""

    uris: tuple[str, ...]
    vectors: Floats  # float32 [n, D]


def draw(table: Table, rows: pa.Table, count: int = ROWS) -> pa.Table:
    """Return ``count`` rows with the smallest hashes: the same ones whatever else the table holds.

    They are taken of parts of ``_BYTES`` in all: of a larger table, these are chosen by the hashes
    in their names.

    Args:
        table: The features table.
        rows: Columns ``uri``, ``content_sha256``, ``__filename`` and any others.
        count: Max number of rows.
    """
    sizes = {part["path"]: part["size_bytes"] for part in table.parts}
    paths = rows["__filename"].unique().to_pylist()
    chosen: list[str] = []
    size = 0
    for path in sorted(paths, key=lambda path: path.rsplit("-", 1)[-1]):
        if size >= _BYTES and len(chosen) >= _PARTS:
            rows = rows.filter(pc.is_in(rows["__filename"], value_set=pa.array(chosen)))
            break
        chosen.append(path)
        size += sizes.get(_file(path), 0)
    keys = [("content_sha256", "ascending"), ("uri", "ascending")]
    return rows.take(pc.select_k_unstable(rows, count, keys)) if rows.num_rows else rows


def _file(path: str) -> str:
    """Return the name of a part that deltalake names by its place."""
    return path.rsplit("/", 1)[-1]


def read_sample(table: Table, rows: pa.Table) -> Sample:
    """Read the vectors of some rows; only parts that hold one of them are read.

    Args:
        table: The features table.
        rows: Columns ``uri`` and ``__filename``.

    Raises:
        Damaged: A part cannot be read.
    """
    uris = rows["uri"].combine_chunks()
    files = {_file(path) for path in rows["__filename"].unique().to_pylist()}
    found: dict[str, Floats] = {}
    for block in read_blocks(table.storage, sorted(files)):
        mask = pc.is_in(block.rows["uri"], value_set=uris).to_numpy(zero_copy_only=False)
        names = block.rows["uri"].combine_chunks().filter(pa.array(mask)).to_pylist()
        found.update(zip(names, block.vectors[mask], strict=True))
    kept = tuple(uri for uri in uris.to_pylist() if uri in found)
    vectors = np.stack([found[uri] for uri in kept]) if kept else np.empty((0, 0), np.float32)
    return Sample(kept, vectors)


def reference(table: Table, output: Storage, run_id: str) -> Sample | None:
    """Return the earlier images that each night is compared with, the same ones every night.

    They are kept in the output. They are drawn anew for another table or recipe, and when the table
    has twice the rows. An image that has left the table leaves the sample too.

    Args:
        table: The features table.
        output: The output.
        run_id: Tonight's run; its own rows and later ones do not count.

    Returns:
        The sample; None when there are no earlier rows.

    Raises:
        Damaged: A part cannot be read.
    """
    total = sum(rows for _, rows in table.row_counts())
    key = f"{FOLDER}/{table.name}.npz"
    known = _load(output, key)
    current = known is not None and _is_of(known[0], table, total)
    # An earlier night must not be compared with rows of its own.
    later = known is not None and str(known[0]["before"]) > run_id
    if known and current and not later:
        there = _still_there(known[1], table)
        if len(there.uris) < len(known[1].uris):
            _save(output, key, known[0], there)
        return there
    rows = table.read(["uri", "content_sha256", "__filename"], pc.field("run_id") < run_id)
    if not rows.num_rows:
        return None
    drawn = read_sample(table, draw(table, rows))
    if current:
        return drawn
    facts = {
        "table_id": table.table_id,
        "recipe": table.recipe_id,
        "rows": total,
        "before": run_id,
    }
    _save(output, key, facts, drawn)
    return drawn


def _still_there(sample: Sample, table: Table) -> Sample:
    """Return the sample without the images that have left the table."""
    uris = pa.array(sample.uris, pa.string())
    rows = table.read(["uri"], pc.field("uri").isin(uris))
    mask = pc.is_in(uris, value_set=rows["uri"].combine_chunks()).to_numpy(zero_copy_only=False)
    return Sample(tuple(np.array(sample.uris, object)[mask]), sample.vectors[mask])


def _is_of(facts: Mapping[str, object], table: Table, total: int) -> bool:
    """Tell whether a sample is of this table and recipe, and large enough for its rows."""
    same = (facts.get("table_id"), facts.get("recipe")) == (table.table_id, table.recipe_id)
    rows = facts.get("rows")
    return same and isinstance(rows, int) and total < _GROWTH * rows


def _load(output: Storage, key: str) -> tuple[Mapping[str, object], Sample] | None:
    """Read the sample that an earlier report kept; None if there is none, or it is damaged."""
    try:
        with np.load(io.BytesIO(output.read(key)), allow_pickle=False) as kept:
            facts = json.loads(str(kept["facts"]))
            uris, vectors = json.loads(str(kept["uris"])), kept["vectors"]
        if (
            not isinstance(facts.get("before"), str)
            or vectors.ndim != 2
            or len(uris) != len(vectors)
        ):
            raise ValueError("it holds something else")
        return facts, Sample(tuple(uris), vectors.astype(np.float32))
    except NotFound:
        return None
    except Exception as error:  # NumPy and zipfile raise many kinds for damaged bytes
        _LOG.warning("%s is damaged (%s): drawing it anew", key, type(error).__name__)
        return None


def _save(output: Storage, key: str, facts: Mapping[str, object], sample: Sample) -> None:
    """Keep a sample; who may only read the output goes on without."""
    encoded = io.BytesIO()
    uris = json.dumps(sample.uris)
    np.savez(encoded, facts=json.dumps(facts), uris=uris, vectors=sample.vectors)
    try:
        output.write(key, encoded.getvalue())
    except StorageError as error:
        _LOG.warning("the sample of earlier images is not kept: %s", error)
