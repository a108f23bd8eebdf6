"""The distinct contents of a table: images with equal bytes are one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrieval.blocks import read_blocks
from pipeline.tables.table import Table
from transforms.parts.vectors import Vectors

_COLUMNS = ("uri", "run_id", "content_sha256")


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """The rows of a table, sorted by uri, and the number of each row's content.

    A content's number is the place of its first row.
    """

    uris: pa.Array  # strings [n]
    run_ids: pa.Array  # strings [n]
    numbers: np.ndarray  # int64 [n]
    hashes: np.ndarray  # perceptual hashes, int64 [n]
    hashed: np.ndarray  # whether a row has one, bool [n]
    # The path of each part → where its rows are among these: int64 [rows of the part].
    places: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, table: Table) -> Contents:
        """Read the rows of a table.

        Raises:
            Damaged: A part cannot be read.
            StorageError: The bucket does not answer.
        """
        has_hash = "phash" in table.column_names
        found = table.read([*_COLUMNS, "__filename", *(["phash"] if has_hash else [])])
        order = pc.sort_indices(found["uri"])
        rows = found.take(order)
        # A row without a digest is a content of its own.
        digests = pc.coalesce(rows["content_sha256"], rows["uri"]).combine_chunks()
        codes = digests.dictionary_encode().indices.to_numpy()
        _, first = np.unique(codes, return_index=True)
        hashes = rows["phash"] if has_hash else pa.chunked_array([pa.nulls(len(codes), pa.int64())])
        return cls(
            rows["uri"].combine_chunks(),
            rows["run_id"].combine_chunks(),
            first[codes].astype(np.int64),
            pc.fill_null(hashes, 0).to_numpy(),
            pc.is_valid(hashes).to_numpy(),
            _places(found["__filename"], order.to_numpy()),
        )

    def blocks(self, table: Table, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, Vectors]]:
        """Yield the vectors of some contents, part after part.

        Args:
            table: The table that was read.
            wanted: Which contents, by their numbers: bool [n].

        Yields:
            Numbers int64 [m], and vectors float32 [m, D] of length 1.

        Raises:
            Damaged: A part is missing, or does not hold what was written.
        """
        wanted = wanted & (self.numbers == np.arange(len(self.numbers)))
        paths = sorted(path for path, places in self.places.items() if wanted[places].any())
        for block in read_blocks(table.storage, paths):
            places = self.places[block.path]
            mask = wanted[places]
            yield places[mask], block.only(mask).normalized()


def _places(paths: pa.ChunkedArray, order: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each part where its rows are after sorting.

    Args:
        paths: The path of each row's part, strings [n]. The rows of a part are in its order.
        order: The sorted rows, uint64 [n].
    """
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    encoded = paths.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    by_part = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))
    names = [str(path).rsplit("/", 1)[-1] for path in encoded.dictionary.to_pylist()]
    return dict(zip(names, np.split(place[by_part], ends[:-1]), strict=True)) if names else {}
