"""Cut image references into shards, and read a shard."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from transforms import parquet
from transforms.records import ImageReference
from transforms.storage import Storage


@dataclass(frozen=True, slots=True)
class ShardPolicy:
    """Limits on the size of shards."""

    # Max images of a shard.
    images: int
    # A shard ends after this many bytes.
    bytes: int
    # Number of workers: each should get at least four shards, if there is that much work.
    workers: int = 1


def shard_bounds(sizes: np.ndarray, policy: ShardPolicy) -> list[tuple[int, int]]:
    """Cut N references into shards of nearly equal work.

    An image takes a share of its shard: 1 / ``images`` or its part of ``bytes``, whichever is more.
    A shard has at most ``images`` images, and exceeds ``bytes`` by at most one image. Each worker
    gets at least four shards, so that a slow shard leaves no worker idle for long, unless shards
    would have fewer than 64 images, where start-up and padding show.

    Args:
        sizes: Sizes in bytes, int64 [N]; -1 where unknown, which counts as the mean known size.
        policy: Limits on a shard.

    Returns:
        Start and length of each shard.
    """
    if not len(sizes):
        return []
    known = sizes >= 0
    sizes = np.where(known, sizes, sizes[known].mean() if known.any() else 0)
    shares = np.cumsum(np.maximum(1 / policy.images, np.minimum(sizes / policy.bytes, 1)))
    enough = min(4 * policy.workers, -(-len(sizes) // 64))
    # The sum of rounding errors stays below this.
    slack = 0.25 / policy.images
    shards = max(int(np.ceil(shares[-1] - slack)), enough, 1)
    ends = np.searchsorted(shares, shares[-1] * np.arange(1, shards) / shards + slack, side="right")
    edges = np.unique([0, *ends, len(sizes)]).tolist()
    return [(start, end - start) for start, end in itertools.pairwise(edges)]


def read_shard(output: Storage, key: str) -> list[ImageReference]:
    """Return the image references of the shard stored at ``key``.

    Raises:
        StorageError: If the shard cannot be read.
    """
    table = parquet.read(output.read(key))
    columns = (table[name].to_pylist() for name in ("uri", "etag", "size", "modified"))
    return [ImageReference(*row) for row in zip(*columns, strict=True)]
