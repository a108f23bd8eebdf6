"""The map of a table: a place for each of its rows, the same from night to night."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrieval.blocks import Block, read_blocks
from pipeline.serve.layout import Layout, fit, load, save
from pipeline.serve.library import View
from pipeline.tables.table import Table
from transforms.engines.models import cache_folder
from transforms.names import printable
from transforms.parts.vectors import Vectors

# More points than that are a cloud to the eye, and slow to draw.
MAP_ROWS = 20_000
# A layout of a few rows fits no table of many.
_GROWTH = 4


@dataclass(slots=True)
class Map:
    """Places of rows, kept for each part: a part never changes. Safe for threads."""

    layout: Layout | None = None
    _layout_of: tuple[str, str] = ("", "")
    _share: float = 1.0
    # By path of the part: uris and places [n, 2].
    _parts: dict[str, tuple[pa.Array, Vectors]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def points(self, view: View, rows: pa.Table) -> dict[str, Any]:
        """Return the places of rows as JSON: x, y, labels, uris, names and a line about them.

        Args:
            view: The version that is shown.
            rows: The rows that meet the filters.

        Raises:
            Damaged: A part cannot be read.
            StorageError: The bucket does not answer.
        """
        with self._lock:
            layout, uris, places = self._of(view)
        found = pc.index_in(uris, value_set=rows["uri"].combine_chunks())
        mask = found.is_valid().to_numpy(zero_copy_only=False)
        places = places[mask].round(4)
        kept = rows.take(found.drop_null())
        names = kept["uri"].to_pylist()
        return {
            "x": places[:, 0].tolist(),
            "y": places[:, 1].tolist(),
            "labels": kept["label"].to_pylist(),
            "uris": names,
            "names": list(map(printable, names)),
            "said": f"{len(names):,} of {rows.num_rows:,} images, placed by {layout.method}",
        }

    def _of(self, view: View) -> tuple[Layout, pa.Array, Vectors]:
        """Return the layout, and the uris and places of all rows on the map."""
        table = view.table
        total = view.rows.num_rows
        share = min(1.0, 2.0 ** np.floor(np.log2(MAP_ROWS / max(total, 1))))
        identity = (table.table_id, table.recipe_id)
        grown = self.layout is not None and total > _GROWTH * self.layout.rows
        if self.layout is None or identity != self._layout_of or grown:
            self.layout, self._layout_of = _layout(table, total, share), identity
            self._parts = {}
        if share != self._share:
            self._parts, self._share = {}, share
        paths = sorted(str(part["path"]) for part in table.parts)
        self._parts = {path: kept for path, kept in self._parts.items() if path in paths}
        for block in read_blocks(table.storage, [p for p in paths if p not in self._parts]):
            uris, vectors = _sample(block, share)
            self._parts[block.path] = (uris, self.layout.place(vectors))
        parts = [self._parts[path] for path in paths]
        if not parts:
            return self.layout, pa.array([], pa.string()), np.zeros((0, 2), np.float32)
        uris = pa.concat_arrays([uris for uris, _ in parts])
        return self.layout, uris, np.concatenate([places for _, places in parts])


def _layout(table: Table, total: int, share: float) -> Layout:
    """Return the layout of the last time, or make one that the next time will find."""
    paths = sorted(str(part["path"]) for part in table.parts)
    if not paths:
        return fit(np.zeros((0, 1), np.float32), 0)
    file = cache_folder().with_name("map") / f"{table.table_id}-{table.recipe_id[:16]}.npz"
    samples: list[Vectors] = []
    for block in read_blocks(table.storage, paths):
        if not samples:
            known = load(file, block.vectors.shape[1])
            if known is not None and total <= _GROWTH * known.rows:
                return known
        samples.append(_sample(block, share)[1])
    layout = fit(np.concatenate(samples), total)
    save(file, layout)
    return layout


def _sample(block: Block, share: float) -> tuple[pa.Array, Vectors]:
    """Return a share of the rows, the same at each time: uris [n] and vectors [n, D] of length 1.

    A smaller share is a part of a larger one.
    """
    uris = block.rows["uri"].combine_chunks()
    numbers = np.array([zlib.crc32(uri.encode()) for uri in uris.to_pylist()], np.uint64)
    mask = numbers < share * 2**32
    return uris.filter(pa.array(mask)), block.normalized()[mask]
