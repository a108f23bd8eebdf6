"""The listing as a Beam transform: pieces of sources → files of image references in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam

from transforms.allocator import share_one_heap
from transforms.sources.base import Source
from transforms.sources.files import write_listing
from transforms.storage import open_storage
from transforms.storage.settings import Stores

# Pieces that one worker lists at once: a page of a bucket takes 50 ms of waiting and 1 ms of work
_AT_ONCE = 16
# Pieces of a group at most: what one worker lists again when it is lost
_GROUP = 64


@dataclass(eq=False)
class ListImages(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """List groups of numbered pieces, a group's pieces 16 at a time, each into files; emits the pieces' numbers."""

    output: str
    folder: str
    # Where buckets are, see ``transforms.storage.settings``
    stores: Stores = ()

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        """Wire the graph."""
        return groups | "List" >> beam.FlatMap(_list, self.output, self.folder, self.stores)


def group_pieces(pieces: Sequence[Source], workers: int) -> list[list[tuple[int, Source]]]:
    """Number the pieces and share them out: a group for each worker, and more where it would hold over 64 pieces."""
    size = max(1, min(_GROUP, -(-len(pieces) // workers)))
    count = -(-len(pieces) // size)
    return [list(enumerate(pieces))[start::count] for start in range(count)]


def _list(
    group: Sequence[tuple[int, Source]], output: str, folder: str, stores: Stores
) -> Iterator[int]:
    share_one_heap()
    storage = open_storage(output, stores)

    def list_piece(numbered: tuple[int, Source]) -> int:
        number, piece = numbered
        write_listing(piece, storage, f"{folder}/{number:06d}")
        return number

    with ThreadPoolExecutor(min(len(group), _AT_ONCE)) as pool:
        yield from pool.map(list_piece, group)
