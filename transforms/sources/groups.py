"""Distribute pieces of sources over groups, and list a group into files of image references."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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

Group = Sequence[tuple[int, Source]]


@dataclass(frozen=True, slots=True)
class ListJob:
    """Where workers write what they list."""

    output: str
    folder: str
    # Where buckets are (``transforms.storage.settings``).
    stores: Stores = ()


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


def list_group(group: Group, job: ListJob) -> list[int]:
    """List each piece of a group into files of the job's folder, 16 pieces at a time.

    A user's mistake becomes a file too: the driver says it in one line, where a runner would print
    pages of its own.

    Returns:
        The numbers of the pieces.
    """
    share_one_heap()
    storage = open_storage(job.output, job.stores)

    def list_piece(numbered: tuple[int, Source]) -> int:
        number, piece = numbered
        name = f"{job.folder}/{number:06d}"
        try:
            write_listing(piece, storage, name, Indexes(storage))
        except UserError as error:
            storage.write(f"{name}{MISTAKE}", str(error).encode(), durable=False)
        return number

    with ThreadPoolExecutor(min(len(group), _CONCURRENT_PIECES)) as pool:
        return list(pool.map(list_piece, group))
