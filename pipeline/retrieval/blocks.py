"""Read the vectors of a table, one part after the other, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from transforms.errors import Damaged, first_line
from transforms.parts.vectors import Vectors, read_rows
from transforms.parts.write import read_part
from transforms.storage import Storage

# What a result shows, and ``run_id``: (uri, run_id) tells a row from others. Under one recipe a row
# never changes.
COLUMNS = ("uri", "run_id", "label")
# Parts in memory at once, besides those of the cache. A part that compaction made takes 150 MB.
_AHEAD = 3


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one part."""

    path: str
    rows: pa.Table  # COLUMNS [n]
    vectors: Vectors  # float32 [n, D], as they are stored
    # float32 [n]: a vector times this has length 1; 0 for a vector of zeros.
    scale: Vectors

    @property
    def size(self) -> int:
        """The bytes that it takes in memory."""
        return int(self.rows.nbytes + self.vectors.nbytes + self.scale.nbytes)

    def only(self, mask: np.ndarray) -> Block:
        """Return some of the rows, chosen by bool [n]."""
        if mask.all():
            return self
        rows = self.rows.filter(pa.array(mask))
        return Block(self.path, rows, self.vectors[mask], self.scale[mask])

    def normalized(self) -> Vectors:
        """Return the vectors divided by their lengths: float32 [n, D]."""
        return self.vectors * self.scale[:, None]


@dataclass(slots=True)
class Cache:
    """Blocks of the version that was read last, up to ``max_bytes``.

    The parts of a version are read in one order, so a cache that drops its oldest block would drop
    each block just before it is needed. This one keeps the first blocks that fit.
    """

    max_bytes: int
    _blocks: dict[str, Block] = field(default_factory=dict)

    def get(self, path: str) -> Block | None:
        """Return the block of a part; None when it is not kept."""
        return self._blocks.get(path)

    def put(self, block: Block) -> None:
        """Keep a block when there is room for it."""
        if self.size + block.size <= self.max_bytes:
            self._blocks[block.path] = block

    def keep_only(self, paths: Sequence[str]) -> None:
        """Let go of the blocks of all other parts."""
        wanted = set(paths)
        self._blocks = {path: block for path, block in self._blocks.items() if path in wanted}

    @property
    def size(self) -> int:
        """The bytes of all blocks."""
        return sum(block.size for block in self._blocks.values())


def read_block(storage: Storage, path: str) -> Block:
    """Read one part.

    Args:
        storage: The table's folder.
        path: The part.

    Raises:
        Damaged: The part is missing, or does not hold what was written.
    """
    encoded = read_part(storage, path)
    try:
        rows, vectors = read_rows(encoded, list(COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise Damaged(
            f"part {path} of {storage.url} cannot be read: {first_line(error)}"
        ) from error
    return Block(path, rows, vectors, scale_of(vectors))


def read_blocks(
    storage: Storage, paths: Sequence[str], cache: Cache | None = None
) -> Iterator[Block]:
    """Yield the parts' rows in the order of ``paths``, reading the next parts meanwhile.

    Args:
        storage: The table's folder.
        paths: The parts.
        cache: Where blocks are looked for and kept.

    Raises:
        Damaged: A part is missing, or does not hold what was written.
    """

    def read(path: str) -> Block:
        return (cache and cache.get(path)) or read_block(storage, path)

    waiting: deque[Future[Block]] = deque()
    rest = iter(paths)
    with ThreadPoolExecutor(_AHEAD - 1, thread_name_prefix="read-part") as pool:
        try:
            for path in rest:
                waiting.append(pool.submit(read, path))
                if len(waiting) == _AHEAD:
                    yield _kept(waiting.popleft().result(), cache)
            while waiting:
                yield _kept(waiting.popleft().result(), cache)
        finally:
            for future in waiting:
                future.cancel()


def scale_of(vectors: Vectors) -> Vectors:
    """Return 1 / length of each vector [n, D], 0 for a vector of zeros: float32 [n]."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    scale: Vectors = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return scale


def _kept(block: Block, cache: Cache | None) -> Block:
    if cache and not cache.get(block.path):
        cache.put(block)
    return block
