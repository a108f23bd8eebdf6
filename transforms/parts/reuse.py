"""Reuse existing vectors for images whose bytes already have one, maybe under another name.

The plan writes an *index* of the existing vectors: 64 bits of each content's sha256, and the part
that holds its row. A worker looks up each image's hash in the index. It reads a part only on a hit,
and then compares the whole hash.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import parquet
from transforms.errors import Damaged
from transforms.parts.rows import Origin, with_sources
from transforms.parts.write import decode_part, read_part
from transforms.records import ImageReference
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)
# In the run's folder.
INDEX_FILE = "index.parquet"
# Max parts read for one shard. More would cost more than computing a few images again.
_MAX_PARTS = 32
# Parts held in memory, some 10 MB each. Successive chunks of a moved folder often need the same
# part.
_HELD_PARTS = 3


def encode_index(known: pa.Table) -> bytes:
    """Encode the index of existing vectors as Parquet, sorted, with each content once.

    Args:
        known: Columns ``content_sha256`` and ``part``, the name of the part's file.
    """
    known = known.filter(pc.is_valid(known["content_sha256"])).combine_chunks()
    prefixes, first = np.unique(_prefixes(known["content_sha256"]), return_index=True)
    parts = known["part"].take(pa.array(first)).combine_chunks().dictionary_encode()
    return parquet.encode(pa.table({"prefix": prefixes, "part": parts}))


def _prefixes(hashes: pa.ChunkedArray) -> np.ndarray:
    """Return the first 16 digits of hexadecimal hashes as uint64 [N]."""
    digits = "".join(pc.utf8_slice_codeunits(hashes, 0, 16).to_pylist())
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)


@lru_cache(maxsize=1)
def _load_index(output: Storage, key: str) -> pa.Table:
    """Load the index once per process: all shards of a run share it."""
    return parquet.read(output.read(key)).combine_chunks()


class Reuse:
    """Vectors that a shard need not compute: those of the table, and those of earlier chunks."""

    def __init__(self, output: Storage, index_key: str | None, table: str = "features") -> None:
        self._output = output
        self._table = table
        self._index = _load_index(output, index_key) if index_key else None
        self._held: OrderedDict[str, pa.Table | None] = OrderedDict()
        self._reads_left = _MAX_PARTS
        self._own: dict[str, tuple[pa.Table, int]] = {}

    def remember(self, rows: pa.Table) -> None:
        """Remember rows (features schema) that the shard has computed."""
        for position, content in enumerate(rows["content_sha256"].to_pylist()):
            self._own[content] = (rows, position)

    def find(self, contents: Sequence[str]) -> list[pa.Table]:
        """Find rows with a vector for some contents.

        Args:
            contents: Distinct sha256 in hexadecimal.

        Returns:
            Rows (features schema) in any order, at most one for each content.
        """
        found = [self._own[content] for content in contents if content in self._own]
        tables = [rows.slice(position, 1) for rows, position in found]
        by_part = self._by_part([content for content in contents if content not in self._own])
        for part, wanted in sorted(by_part.items(), key=lambda item: (-len(item[1]), item[0])):
            rows = self._read(part)
            if rows is not None:
                tables.append(
                    rows.filter(pc.is_in(rows["content_sha256"], value_set=pa.array(wanted)))
                )
        return [table for table in tables if table.num_rows]

    def _by_part(self, contents: Sequence[str]) -> dict[str, list[str]]:
        """Return the parts that may hold rows of ``contents``, each with these contents."""
        parts: dict[str, list[str]] = {}
        if self._index is None or not contents:
            return parts
        known = self._index["prefix"].to_numpy()
        wanted = _prefixes(pa.chunked_array([pa.array(contents)]))
        places = np.searchsorted(known, wanted)
        hits = np.flatnonzero(known[np.minimum(places, len(known) - 1)] == wanted)
        names = self._index["part"].take(pa.array(places[hits])).to_pylist()
        for hit, name in zip(hits.tolist(), names, strict=True):
            parts.setdefault(name, []).append(contents[hit])
        return parts

    def _read(self, part: str) -> pa.Table | None:
        """Return a part's rows; None if it is missing or damaged, or too many were read."""
        if part in self._held:
            self._held.move_to_end(part)
            return self._held[part]
        if not self._reads_left:
            return None
        self._reads_left -= 1
        try:
            encoded = read_part(self._output, f"{self._table}/{part}")
            rows = decode_part(encoded).replace_schema_metadata(None)
        except Damaged as error:
            # Vacuum may have deleted the part since the plan.
            _LOG.warning("%s; its vectors are computed again", error.what)
            rows = None
        self._held[part] = rows
        if len(self._held) > _HELD_PARTS:
            self._held.popitem(last=False)
        return rows


def copy_rows(
    rows: pa.Table, copies: Sequence[tuple[ImageReference, str]], origin: Origin
) -> pa.Table:
    """Make rows for images whose content has a vector already.

    Args:
        rows: Rows (features schema) with the contents' vectors.
        copies: Images, each with the sha256 of its content.
        origin: The columns that all rows of the run share.

    Returns:
        One row (features schema) for each image.
    """
    contents = pa.array([content for _, content in copies], pa.string())
    copied = rows.take(pc.index_in(contents, value_set=rows["content_sha256"].combine_chunks()))
    references = [reference for reference, _ in copies]
    values: dict[str, list[object]] = {
        name: [getattr(reference, name) for reference in references]
        for name in ("uri", "etag", "size", "modified")
    }
    values |= {
        "run_id": [origin.run_id] * len(copies),
        "extracted_at": [origin.started_at] * len(copies),
    }
    for name, column in values.items():
        field = copied.schema.field(name)
        copied = copied.set_column(
            copied.schema.get_field_index(name), field, pa.array(column, field.type)
        )
    return with_sources(copied, references, origin)
