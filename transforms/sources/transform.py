"""List pieces of sources into files of image references, as a Beam transform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam

from transforms.allocator import share_one_heap
from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.sources.base import Source
from transforms.sources.files import MISTAKE, write_listing
from transforms.storage import open_storage
from transforms.storage.settings import Stores

# Pieces that one worker lists at once: a page of a bucket takes 50 ms of waiting and 1 ms of work.
_CONCURRENT_PIECES = 16
# Max pieces of a group, which is listed again as a whole when its worker is lost.
_GROUP = 64


@dataclass(eq=False)
class ListImages(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """List each numbered piece of each group into files of ``folder``, and emit its number.

    A user's mistake becomes a file too, which ``Listing`` raises.
    16 pieces of a group are listed at a time.
    """

    output: str
    folder: str
    # Where buckets are (``transforms.storage.settings``).
    stores: Stores = ()

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        """Build the graph."""
        return groups | "List" >> beam.FlatMap(_list, self.output, self.folder, self.stores)


def group_pieces(pieces: Sequence[Source], workers: int) -> list[list[tuple[int, Source]]]:
    """Number the pieces and distribute them over groups.

    Args:
        pieces: At least one piece.
        workers: Number of workers.

    Returns:
        One group for each worker, or more groups if these would have over 64 pieces.
    """
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
        try:
            write_listing(piece, storage, f"{folder}/{number:06d}", Indexes(storage))
        except UserError as error:
            # The driver says it in one line; a runner would print pages of its own.
            storage.write(f"{folder}/{number:06d}{MISTAKE}", str(error).encode(), durable=False)
        return number

    with ThreadPoolExecutor(min(len(group), _CONCURRENT_PIECES)) as pool:
        yield from pool.map(list_piece, group)
