"""The bytes of an exact FAISS index with ids, so that a file can be written without holding it.

FAISS writes an index from memory only. Its file is what an index without rows is written as, with
three sizes filled in, then the codes of the vectors, the number of ids, and the ids as int64
(``faiss/impl/index_write.cpp``). FAISS itself gives the file of no rows and the code of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.indexing.ivf import faiss
from transforms.errors import RunFailed
from transforms.parts.vectors import Vectors

_KINDS = {"float32": ("IDMap,Flat", 4), "float16": ("IDMap,SQfp16", 1)}
# Where both headers, of the ids and of the vectors, have the number of rows.
_COUNTS = (8, 45)
# Where the first one has the dimension, as int32.
_DIMENSION = slice(4, 8)
_MAX_DIMENSION = 1 << 20
_LONG = 8
# Bytes of codes that are in memory at once.
_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The layout of an index of some number format and dimension."""

    empty: bytes  # the file of an index without rows
    index: Any  # FAISS' own, which makes the codes
    width: int  # bytes of a vector's code
    unit: int  # the codes' size is counted in this many bytes

    @classmethod
    def of(cls, dimension: int, numbers: str) -> Layout:
        """Learn the layout from FAISS.

        Args:
            dimension: Of the vectors.
            numbers: float32 or float16.

        Raises:
            UserError: FAISS is not installed.
            RunFailed: This version of FAISS writes other files.
        """
        module = faiss()
        kind, unit = _KINDS[numbers]
        index = module.index_factory(dimension, kind, module.METRIC_INNER_PRODUCT)
        empty = module.serialize_index(index).tobytes()
        layout = cls(empty, index, index.index.sa_code_size(), unit)
        vectors, ids = np.ones((2, dimension), np.float32), np.array([7, 1 << 62])
        own = layout.head(2) + layout.encode(vectors).tobytes() + layout.tail(2) + ids.tobytes()
        index.add_with_ids(vectors, ids)
        if module.serialize_index(index).tobytes() != own:
            raise RunFailed(
                f"FAISS {module.__version__} writes index files in a form that is not known here. "
                "Version 1.15 writes the known one: pip install 'faiss-cpu==1.15.*'"
            )
        return layout

    def head(self, rows: int) -> bytes:
        """Return what comes before the codes."""
        head = bytearray(self.empty[: -2 * _LONG])
        for place in _COUNTS:
            head[place : place + _LONG] = _long(rows)
        return bytes(head) + _long(rows * self.width // self.unit)

    def tail(self, rows: int) -> bytes:
        """Return what comes between the codes and the ids."""
        return _long(rows)

    def encode(self, vectors: Vectors) -> np.ndarray:
        """Return the codes, uint8 [n, width], of vectors, float32 [n, D]."""
        codes: np.ndarray = self.index.index.sa_encode(np.ascontiguousarray(vectors))
        return codes

    def rows_of(self, path: Path) -> int:
        """Return the number of rows of an index file.

        Raises:
            ValueError: It is another file, or is cut off.
        """
        frame = len(self.head(0)) + _LONG
        rows, rest = divmod(path.stat().st_size - frame, self.width + _LONG)
        if rows < 0 or rest:
            raise ValueError("not an index of this kind")
        with path.open("rb") as file:
            start = file.read(frame - _LONG)
            file.seek(rows * self.width, 1)
            middle = file.read(_LONG)
        if start + middle != self.head(rows) + self.tail(rows):
            raise ValueError("not an index of this kind")
        return rows

    def blocks(self, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the codes, uint8 [n, width], and the ids, int64 [n], of an index file."""
        rows = self.rows_of(path)
        at_once = max(1, _BLOCK_BYTES // self.width)
        with path.open("rb") as codes, path.open("rb") as ids:
            codes.seek(len(self.head(0)))
            ids.seek(len(self.head(0)) + rows * self.width + _LONG)
            for start in range(0, rows, at_once):
                count = min(at_once, rows - start)
                found = np.frombuffer(codes.read(count * self.width), np.uint8)
                yield found.reshape(count, -1), np.frombuffer(ids.read(count * _LONG), np.int64)


def dimension_of(path: Path) -> int:
    """Return the dimension that an index file states.

    Raises:
        ValueError: It states none that a network has.
    """
    with path.open("rb") as file:
        dimension = int.from_bytes(file.read(8)[_DIMENSION], "little")
    if not 0 < dimension <= _MAX_DIMENSION:
        raise ValueError("not an index of this kind")
    return dimension


def _long(number: int) -> bytes:
    return number.to_bytes(_LONG, "little")
