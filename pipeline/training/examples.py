"""Choose what a head learns from: the rows with a label, their targets, and the side of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.tables.table import Table
from pipeline.training.labels import Labels, read_labels
from pipeline.training.split import Split, split_of
from transforms.errors import UserError
from transforms.names import printable
from transforms.records import CARRIED

Rows = npt.NDArray[np.int64]
SIDES: tuple[Split, ...] = ("train", "validation", "test")
_UNUSED = -1
# Fewer rows than this give no figure that a person can trust.
FEW_ROWS = 10
# The words that datasets use for each side.
_WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_COLUMN = "column:"
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """The labels of N rows as numbers."""

    classes: tuple[str, ...]
    exclusive: bool
    # The labels of row i are numbers[starts[i] : starts[i + 1]], positions in ``classes``.
    starts: Rows  # [N + 1]
    numbers: npt.NDArray[np.int32]

    def of(self, rows: Rows) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
        """Return the targets of some rows.

        Args:
            rows: Numbers of rows [B]; where labels exclude each other, each row has one.

        Returns:
            The class of each row, int32 [B], where one label excludes the others; otherwise
            float32 [B, classes] of 0 and 1.
        """
        if self.exclusive:
            return self.numbers[self.starts[rows]]
        return self.matrix(rows)

    def matrix(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return float32 [B, classes]: 1 for each label of a row, otherwise 0."""
        matrix = np.zeros((len(rows), len(self.classes)), np.float32)
        lengths = self.starts[rows + 1] - self.starts[rows]
        ends = np.cumsum(lengths)
        places = np.arange(lengths.sum()) + np.repeat(self.starts[rows] - ends + lengths, lengths)
        matrix[np.repeat(np.arange(len(rows)), lengths), self.numbers[places]] = 1
        return matrix

    def counts(self, rows: Rows) -> Rows:
        """Count the rows of each class: int64 [classes]."""
        counts = np.zeros(len(self.classes), np.int64)
        for start in range(0, len(rows), 65_536):
            part = rows[start : start + 65_536]
            lengths = self.starts[part + 1] - self.starts[part]
            ends = np.cumsum(lengths)
            shift = np.repeat(self.starts[part] - ends + lengths, lengths)
            found = self.numbers[np.arange(lengths.sum()) + shift]
            counts += np.bincount(found, minlength=len(self.classes))
        return counts


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """The rows of one version of a table, numbered part by part."""

    targets: Targets
    rows: pa.Table  # N rows: the uri, and the columns that were asked for
    # The path of each part, with the numbers of its first row and of the row after its last one.
    parts: tuple[tuple[str, int, int], ...]
    # For each row the position of its side in SIDES; -1 for a row that is not used.
    sides: npt.NDArray[np.int8]
    unlabelled: int
    # Rows that have no value of the split column.
    without_side: int = 0
    # Classes that no row for training has, with the numbers of their rows: they cannot be learned.
    dropped: dict[str, int] = field(default_factory=dict)

    def numbers(self, side: Split) -> Rows:
        """Return the numbers of a side's rows."""
        return np.flatnonzero(self.sides == SIDES.index(side))

    @property
    def few(self) -> dict[str, int]:
        """The classes with fewer than FEW_ROWS rows, with their numbers of rows."""
        counts = self.targets.counts(np.flatnonzero(self.sides >= 0))
        names = self.targets.classes
        return {names[i]: int(counts[i]) for i in np.flatnonzero(counts < FEW_ROWS)}


def read_examples(
    features: Table, labels: str, split_column: str | None = None, columns: Sequence[str] = ()
) -> Examples:
    """Read which rows of a table have which labels, and the side of each.

    Args:
        features: The table, in one version.
        labels: As ``--labels``.
        split_column: A carried column that holds train, validation or test; None to let the hash of
            each image's bytes decide.
        columns: Further columns of the rows to keep.

    Raises:
        UserError: The table has no rows, the labels cannot be used, or no row is for training.
        Damaged: A part cannot be read.
    """
    with_source = labels.startswith(_COLUMN) or bool(split_column)
    rows = _read_rows(features, columns, with_source)
    if not rows.num_rows:
        raise UserError(f"{features.url} has no rows, so there are no vectors to learn from")
    found = read_labels(labels, rows)
    sides = _sides_by_column(split_column, rows) if split_column else _sides_by_bytes(rows)
    labelled = np.array([bool(numbers) for numbers in found.of_rows])
    without_side = int((labelled & (sides == _UNUSED)).sum())
    targets, used, dropped = _without_untrained(found, np.where(labelled, sides, _UNUSED), labels)
    return Examples(
        targets=targets,
        rows=rows.select(["uri", *columns]),
        parts=_parts(rows),
        sides=used,
        unlabelled=found.unlabelled,
        without_side=without_side,
        dropped=dropped,
    )


def _read_rows(features: Table, columns: Sequence[str], with_source: bool) -> pa.Table:
    """Read all rows without their vectors, part by part, in the order of each part."""
    source = [CARRIED[0]] if with_source and features.carried else []
    needed = {"uri", "content_sha256", "__filename", *source, *columns}
    rows = features.read(sorted(needed))
    # A stable sort: the rows of a part keep their order.
    paths = rows["__filename"].combine_chunks().dictionary_encode()
    order = np.argsort(paths.indices.to_numpy(zero_copy_only=False), kind="stable")
    return rows.take(pa.array(order))


def _parts(rows: pa.Table) -> tuple[tuple[str, int, int], ...]:
    paths = rows["__filename"].combine_chunks().dictionary_encode()
    counts = np.bincount(paths.indices.to_numpy(zero_copy_only=False))
    ends = np.cumsum(counts)
    names = [PurePosixPath(path).name for path in paths.dictionary.to_pylist()]
    return tuple(
        (name, int(end - count), int(end))
        for name, end, count in zip(names, ends, counts, strict=True)
    )


def _sides_by_bytes(rows: pa.Table) -> npt.NDArray[np.int8]:
    pairs = zip(rows["content_sha256"].to_pylist(), rows["uri"].to_pylist(), strict=True)
    hashes = (content or hashlib.sha256(uri.encode()).hexdigest() for content, uri in pairs)
    return np.array([SIDES.index(split_of(content)) for content in hashes], np.int8)


def _sides_by_column(name: str, rows: pa.Table) -> npt.NDArray[np.int8]:
    kind = rows[CARRIED[0]].type if CARRIED[0] in rows.column_names else None
    carried = [one.name for one in kind] if kind is not None and pa.types.is_struct(kind) else []
    if name not in carried:
        there = f"there are {', '.join(map(printable, carried))}" if carried else "it has none"
        raise UserError(
            f"--split-column {name}: the table carries no such column; {there}. 'extract --carry "
            f"{name}' keeps a column of a manifest"
        )
    values = pa.compute.struct_field(rows[CARRIED[0]], name).to_pylist()
    words = [str(value).strip().lower() if value is not None else "" for value in values]
    if strange := sorted({word for word in words if word} - set(_WORDS)):
        raise UserError(
            f"--split-column {name}: holds {printable(strange[0])!r}; a row's value is train, "
            "validation or test, or there is none"
        )
    return np.array([SIDES.index(_WORDS[w]) if w else _UNUSED for w in words], np.int8)


def _without_untrained(
    found: Labels, sides: npt.NDArray[np.int8], spec: str
) -> tuple[Targets, npt.NDArray[np.int8], dict[str, int]]:
    """Leave out the classes that no row for training has.

    A row that has no other label is not used.
    """
    numbers = np.fromiter((n for row in found.of_rows for n in row), np.int32)
    lengths = np.fromiter(map(len, found.of_rows), np.int64, len(found.of_rows))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    size = len(found.classes)
    trained = np.bincount(numbers[sides[owner] == 0], minlength=size) > 0
    if trained.sum() < 2:
        raise UserError(_too_few([found.classes[i] for i in np.flatnonzero(trained)], spec))
    counts = np.bincount(numbers[sides[owner] >= 0], minlength=size)
    dropped = {found.classes[i]: int(counts[i]) for i in np.flatnonzero(~trained)}
    kept = trained[numbers]
    renumbered = (np.cumsum(trained) - 1).astype(np.int32)[numbers[kept]]
    lengths = np.bincount(owner[kept], minlength=len(lengths))
    classes = tuple(name for name, is_kept in zip(found.classes, trained, strict=True) if is_kept)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    used = np.where(lengths > 0, sides, _UNUSED).astype(np.int8)
    return Targets(classes, found.exclusive, starts, renumbered), used, dropped


def _too_few(trained: Sequence[str], spec: str) -> str:
    seen = f"only {printable(trained[0])} has" if trained else "no label has"
    return (
        f"--labels {spec}: {seen} rows for training; a classifier needs rows of at least two "
        "labels. 8 of 10 images are for training, unless --split-column says which"
    )


def about(examples: Examples, version: str) -> str:
    """Say which rows are used."""
    rows = [int((examples.sides == number).sum()) for number in range(len(SIDES))]
    kind = "" if examples.targets.exclusive else ", of which a row may have several"
    lines = [
        f"version {version}: {rows[0]:,} rows for training, {rows[1]:,} for validation, "
        f"{rows[2]:,} for the test; {len(examples.targets.classes):,} labels{kind}"
    ]
    if examples.unlabelled:
        lines.append(f"{examples.unlabelled:,} rows have no label and are not used")
    if examples.without_side:
        lines.append(f"{examples.without_side:,} rows are on no side and are not used")
    if examples.dropped:
        lines.append(f"left out, as no row for training has them: {_counted(examples.dropped)}")
    if examples.few:
        lines.append(f"fewer than {FEW_ROWS} rows: {_counted(examples.few)}")
    return "\n".join(lines)


def _counted(classes: dict[str, int]) -> str:
    shown = [f"{printable(name)} ({rows})" for name, rows in list(classes.items())[:_SHOWN]]
    more = f" and {len(classes) - _SHOWN:,} more" if len(classes) > _SHOWN else ""
    return ", ".join(shown) + more
