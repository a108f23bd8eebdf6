"""Cut image references into shards, and read a shard."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import parquet
from transforms.records import LISTING_SCHEMA, TARGETS, ImageReference, references_of
from transforms.storage import Storage

# Images of a shard that is made smaller to give each worker some; and where there is one worker.
_FEWEST, _FEWEST_ALONE = 64, 256


@dataclass(frozen=True, slots=True)
class ShardPolicy:
    """Limits on the size of shards."""

    # Max images of a shard.
    images: int
    # A shard ends after this many bytes.
    bytes: int
    # Number of workers: each should get at least four shards, if there is that much work.
    workers: int = 1


def shared(todo: Sequence[pa.Table]) -> pa.Table:
    """Join what is to be done for several targets, so that each image is read once for all.

    An image has two rows if one target copies its vector and another one has to read it.

    Args:
        todo: The images to do for each target, LISTING_SCHEMA.

    Returns:
        The images in the order of their uris, with the column TARGETS. One target's stay as they
        are.
    """
    if len(todo) == 1:
        return todo[0]
    rows = pa.concat_tables([LISTING_SCHEMA.empty_table(), *todo])
    bits = np.repeat([1 << number for number in range(len(todo))], [len(own) for own in todo])
    keys = pa.table(
        [rows["uri"], rows["content"], bits, np.arange(len(rows))],
        ["uri", "content", TARGETS, "row"],
    )
    groups = keys.group_by(["uri", "content"]).aggregate([(TARGETS, "sum"), ("row", "min")])
    groups = groups.sort_by([("uri", "ascending"), ("row_min", "ascending")])
    masks = pc.cast(groups[f"{TARGETS}_sum"], pa.int64())
    return rows.take(groups["row_min"]).append_column(TARGETS, masks)


def in_reading_order(images: pa.Table) -> pa.Table:
    """Sort the images to do (LISTING_SCHEMA) so that those of a container follow its bytes."""
    member = images["member"].combine_chunks()
    if member.null_count == len(member):
        return images
    place = pc.fill_null(member.field("container"), images["uri"].combine_chunks())
    offset = pc.fill_null(member.field("offset"), 0)
    order = pc.sort_indices(
        pa.table([place, offset], ["place", "offset"]),
        sort_keys=[("place", "ascending"), ("offset", "ascending")],
    )
    return images.take(order)


def stream_starts(images: pa.Table) -> np.ndarray:
    """Return the positions where a shard may start: int64, ascending.

    Images of one stream have to stay together: each shard would read the stream from its start.

    Args:
        images: N images (LISTING_SCHEMA) in reading order.
    """
    every = np.arange(images.num_rows)
    member = images["member"].combine_chunks()
    if member.null_count == len(member):
        return every
    streams = member.field("stream").to_numpy(zero_copy_only=False)
    containers = member.field("container").dictionary_encode().indices
    place = pc.fill_null(containers, -1).to_numpy(zero_copy_only=False)
    # NaN, for no stream, differs from itself.
    inside = (streams[1:] == streams[:-1]) & (place[1:] == place[:-1])
    starts: np.ndarray = every[np.concatenate([[True], ~inside])]
    return starts


def shard_bounds(
    sizes: np.ndarray, policy: ShardPolicy, starts: np.ndarray | None = None
) -> list[tuple[int, int]]:
    """Cut N references into shards of nearly equal work.

    An image takes a share of its shard: 1 / ``images`` or its part of ``bytes``, whichever is more.
    A shard has at most ``images`` images, and exceeds ``bytes`` by at most one image. Each worker
    gets at least four shards, so that a slow shard leaves no worker idle for long, unless shards
    would have fewer than 64 images, where start-up and padding show. A single worker can wait for
    no other one: its shards have at least 256 images.

    Args:
        sizes: Sizes in bytes, int64 [N]; -1 where unknown, which counts as the mean known size.
        policy: Limits on a shard.
        starts: Positions where a shard may start, int64, ascending, 0 first; None for all. A shard
            may exceed its limits for their sake.

    Returns:
        Start and length of each shard.
    """
    if not len(sizes):
        return []
    known = sizes >= 0
    sizes = np.where(known, sizes, sizes[known].mean() if known.any() else 0)
    shares = np.cumsum(np.maximum(1 / policy.images, np.minimum(sizes / policy.bytes, 1)))
    fewest = _FEWEST_ALONE if policy.workers == 1 else _FEWEST
    enough = min(4 * policy.workers, -(-len(sizes) // fewest))
    # The sum of rounding errors stays below this.
    slack = 0.25 / policy.images
    shards = max(int(np.ceil(shares[-1] - slack)), enough, 1)
    ends = np.searchsorted(shares, shares[-1] * np.arange(1, shards) / shards + slack, side="right")
    if starts is not None and len(ends):
        ends = starts[np.searchsorted(starts, ends, side="right") - 1]
    edges = np.unique([0, *ends, len(sizes)]).tolist()
    return [(start, end - start) for start, end in itertools.pairwise(edges)]


def read_shard(output: Storage, key: str) -> list[ImageReference]:
    """Return the image references of the shard stored at ``key``.

    Raises:
        StorageError: If the shard cannot be read.
    """
    return references_of(parquet.read(output.read(key)))
