"""Write the images to do as shards, which the targets of a run share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import parquet
from transforms.records import TARGETS
from transforms.shards import ShardPolicy, in_reading_order, shard_bounds, shared, stream_starts
from transforms.storage import Storage
from transforms.storage.urls import scheme_of

# Images that wait to be cut into shards at the most: some 500 MB.
_PENDING = 1_000_000
# Concurrent requests to the storage: a bucket takes some 40 ms for each shard.
_REQUESTS = 32


class Shards:
    """Cuts the images to do into shards, and writes them as Parquet files of image references.

    Args:
        output: The output; None for a dry run, which only counts.
        run_folder: Folder of the run in the output.
        policy: Limits on a shard.
        targets: The number of backbones of the run.
    """

    def __init__(
        self, output: Storage | None, run_folder: str, policy: ShardPolicy, targets: int = 1
    ) -> None:
        self.names: list[str] = []
        self.of_target: list[list[str]] = [[] for _ in range(targets)]
        self.images = 0
        self.bytes = 0  # of the images whose size is known
        self.remote = False  # whether the images are in a bucket
        self._output = output
        self._folder = run_folder
        self._policy = policy
        self._pending: list[pa.Table] = []

    def add(self, todo: Sequence[pa.Table]) -> None:
        """Add the images of the next range that are to be done, for each target."""
        images = shared(todo)
        if len(images) and not self.images:
            self.remote = scheme_of(images["uri"][0].as_py()) not in ("", "file")
        self.images += len(images)
        self.bytes += pc.sum(pc.max_element_wise(images["size"], 0)).as_py() or 0
        self._pending.append(images)
        if sum(map(len, self._pending)) >= _PENDING:
            self._cut()

    def finish(self) -> None:
        """Write the last shards."""
        self._cut()

    def _cut(self) -> None:
        """Write the pending images as shards.

        The first call makes enough shards for all workers; later calls make full ones.
        """
        if not self._pending:
            return
        todo = in_reading_order(pa.concat_tables(self._pending))
        self._pending = []
        policy = replace(self._policy, workers=0) if self.names else self._policy
        bounds = shard_bounds(todo["size"].to_numpy(), policy, stream_starts(todo))
        first = len(self.names)
        names = [f"shard-{number:05d}" for number in range(first, first + len(bounds))]
        self.names += names
        pieces = [todo.slice(start, length) for start, length in bounds]
        for name, piece in zip(names, pieces, strict=True):
            self._note_targets(name, piece)
        if self._output:
            keys = [f"{self._folder}/plan/{name}.parquet" for name in names]
            with ThreadPoolExecutor(_REQUESTS) as pool:
                list(pool.map(_write, itertools.repeat(self._output), keys, pieces))

    def _note_targets(self, name: str, piece: pa.Table) -> None:
        """Note which targets have images in a shard."""
        masks = np.unique(piece[TARGETS].to_numpy()) if TARGETS in piece.column_names else [1]
        for number, shards in enumerate(self.of_target):
            if any(int(mask) >> number & 1 for mask in masks):
                shards.append(name)


def _write(output: Storage, key: str, table: pa.Table) -> None:
    output.write(key, parquet.encode(table))
