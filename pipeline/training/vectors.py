"""Hold the vectors that a head learns from, and give them in batches, in bounded memory.

Few vectors stay in memory. Many are written once to temporary files, each row to one of them at
random, and each epoch reads these files one after the other. So neighbours in the table, which
mostly share a label, do not come together, and no epoch decodes the table's parts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pipeline.tables.table import Table
from pipeline.training.examples import SIDES, Examples, Rows
from pipeline.training.split import Split
from transforms.errors import Damaged, UserError, first_line
from transforms.parts.vectors import Vectors, read_rows
from transforms.parts.write import read_part
from transforms.prefetch import prefetch
from transforms.scratch import temporary_folder
from transforms.storage import is_full

# Bytes of vectors that stay in memory: 200,000 of 1280 numbers.
MEMORY_BYTES = 1 << 30
# Of one temporary file. Two are in memory at once.
FILE_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some rows of a side; its vectors are loaded when they are needed."""

    rows: Rows  # [n]
    load: Callable[[], Vectors]  # float32 [n, D]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The vectors for training, validation or test."""

    chunks: tuple[Chunk, ...]
    dimension: int

    def __len__(self) -> int:
        return sum(len(chunk.rows) for chunk in self.chunks)

    def steps(self, size: int) -> int:
        """Return how many batches ``batches`` yields."""
        return sum(-(-len(chunk.rows) // size) for chunk in self.chunks)

    def batches(self, size: int, seed: tuple[int, ...] = ()) -> Iterator[tuple[Vectors, Rows]]:
        """Yield vectors float32 [B, D] and the numbers of their rows [B], each row once.

        Args:
            size: The max number of rows of a batch.
            seed: Decides a random order; () gives no random one.
        """
        random = np.random.default_rng(seed) if seed else None
        order = random.permutation(len(self.chunks)) if random else range(len(self.chunks))
        chunks = [self.chunks[number] for number in order]
        for rows, vectors in prefetch((chunk.rows, chunk.load()) for chunk in chunks):
            places = random.permutation(len(rows)) if random else np.arange(len(rows))
            for start in range(0, len(rows), size):
                chosen = places[start : start + size]
                yield vectors[chosen], rows[chosen]


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """The vectors of each side, and the statistics of those for training."""

    sides: dict[Split, Side]
    mean: Vectors  # [D]
    variance: Vectors  # [D]
    on_disk: bool

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return len(self.mean)


@contextmanager
def collect(features: Table, examples: Examples, seed: int = 0) -> Iterator[Collected]:
    """Read the vectors of all rows that are used, once.

    Args:
        features: The table, in the version that the examples were read from.
        examples: The rows.
        seed: Decides which temporary file a row goes to.

    Yields:
        The vectors; temporary files are deleted when the body ends.

    Raises:
        Damaged: A part is missing, or does not hold what was written.
        UserError: There is no room for temporary files.
    """
    blocks = _blocks(features, examples)
    first = next(blocks)
    size = int((examples.sides >= 0).sum()) * first[1].shape[1] * 4
    with ExitStack() as stack:
        if size <= MEMORY_BYTES:
            keep: _Memory | _Files = _Memory(examples, first[1].shape[1])
        else:
            folder = stack.enter_context(temporary_folder())
            keep = stack.enter_context(_Files(folder, examples, size, seed))
        moments = _Moments(first[1].shape[1])
        for rows, vectors in _chain(first, blocks):
            keep.add(rows, vectors)
            moments.add(vectors[examples.sides[rows] == SIDES.index("train")])
        yield Collected(keep.sides(), *moments.result(), on_disk=isinstance(keep, _Files))


def _chain(
    first: tuple[Rows, Vectors], rest: Iterator[tuple[Rows, Vectors]]
) -> Iterator[tuple[Rows, Vectors]]:
    yield first
    yield from rest


def _blocks(features: Table, examples: Examples) -> Iterator[tuple[Rows, Vectors]]:
    """Yield the rows that are used of each part, and their vectors."""
    return prefetch(_read_blocks(features, examples))


def _read_blocks(features: Table, examples: Examples) -> Iterator[tuple[Rows, Vectors]]:
    for path, start, end in examples.parts:
        try:
            rows, vectors = read_rows(read_part(features.storage, path), ["uri"])
        except (pa.ArrowException, OSError) as error:
            raise Damaged(
                f"part {path} of {features.url} cannot be read: {first_line(error)}"
            ) from error
        expected = examples.rows["uri"].slice(start, end - start)
        if rows["uri"].combine_chunks() != expected.combine_chunks():
            raise Damaged(f"part {path} of {features.url} has other rows than before")
        used = np.flatnonzero(examples.sides[start:end] >= 0)
        if len(used):
            yield start + used, vectors[used] if len(used) < len(vectors) else vectors


class _Moments:
    """Adds up the mean and the variance of vectors."""

    def __init__(self, dimension: int) -> None:
        self._count = 0
        self._sum = np.zeros(dimension)
        self._squares = np.zeros(dimension)

    def add(self, vectors: Vectors) -> None:
        self._count += len(vectors)
        self._sum += vectors.sum(0, dtype=np.float64)
        self._squares += np.einsum("nd,nd->d", vectors, vectors, dtype=np.float64)

    def result(self) -> tuple[Vectors, Vectors]:
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean**2, 0)
        return mean.astype(np.float32), variance.astype(np.float32)


class _Memory:
    """Keeps all vectors in memory."""

    def __init__(self, examples: Examples, dimension: int) -> None:
        self._examples = examples
        self._rows = [examples.numbers(side) for side in SIDES]
        self._vectors = [np.empty((len(rows), dimension), np.float32) for rows in self._rows]
        self._filled = [0] * len(SIDES)

    def add(self, rows: Rows, vectors: Vectors) -> None:
        sides = self._examples.sides[rows]
        for number, kept in enumerate(self._vectors):
            own = vectors[sides == number]
            start = self._filled[number]
            kept[start : start + len(own)] = own
            self._filled[number] += len(own)

    def sides(self) -> dict[Split, Side]:
        pairs = zip(SIDES, self._rows, self._vectors, strict=True)
        return {side: _in_memory(rows, vectors) for side, rows, vectors in pairs}


def _in_memory(rows: Rows, vectors: Vectors) -> Side:
    chunks = (Chunk(rows, lambda: vectors),) if len(rows) else ()
    return Side(chunks, vectors.shape[1])


class _Files:
    """Writes each vector to one of several temporary files, at random."""

    def __init__(self, folder: Path, examples: Examples, size: int, seed: int) -> None:
        self._examples = examples
        self._random = np.random.default_rng(seed)
        self._count = -(-size // FILE_BYTES)
        self._paths = [
            [folder / f"{side}-{number}" for number in range(self._count)] for side in SIDES
        ]
        self._rows: list[list[list[Rows]]] = [[[] for _ in paths] for paths in self._paths]
        self._files: list[list[BinaryIO]] = []
        self._dimension = 0
        self._stack = ExitStack()

    def __enter__(self) -> _Files:
        self._files = [
            [self._stack.enter_context(path.open("wb")) for path in paths] for paths in self._paths
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, rows: Rows, vectors: Vectors) -> None:
        self._dimension = vectors.shape[1]
        sides = self._examples.sides[rows]
        chosen = self._random.integers(0, self._count, len(rows))
        for side, files in enumerate(self._files):
            for number, file in enumerate(files):
                own = np.flatnonzero((sides == side) & (chosen == number))
                if len(own):
                    self._rows[side][number].append(rows[own])
                    _write(file, vectors[own])

    def sides(self) -> dict[Split, Side]:
        self._stack.close()
        pairs = zip(SIDES, self._rows, self._paths, strict=True)
        return {
            side: Side(self._chunks(rows, paths), self._dimension) for side, rows, paths in pairs
        }

    def _chunks(self, rows: list[list[Rows]], paths: list[Path]) -> tuple[Chunk, ...]:
        return tuple(
            Chunk(np.concatenate(own), self._loader(path))
            for own, path in zip(rows, paths, strict=True)
            if own
        )

    def _loader(self, path: Path) -> Callable[[], Vectors]:
        return lambda: np.fromfile(path, np.float32).reshape(-1, self._dimension)


def _write(file: BinaryIO, vectors: Vectors) -> None:
    try:
        file.write(vectors.data)
    except OSError as error:
        if not is_full(error):
            raise
        raise UserError(
            f"there is no room for the vectors in {Path(file.name).parent.parent}: they take as "
            "much as the table; make room there, or name another folder with TMPDIR"
        ) from error
