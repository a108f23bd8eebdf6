"""What a training learns from: the rows of a table with their labels, sides and weights."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.tables import Table
from pipeline.training.labels import read_labels
from pipeline.training.split import split_of
from transforms.errors import UserError
from transforms.names import printable
from transforms.records import CARRIED

_LOG = logging.getLogger(__name__)
_COLUMNS = ("uri", "etag", "size", "modified", "content_sha256", "width", "height")
_SHOWN = 5
# Above this ratio of the largest class to the smallest, each class has the same weight in the loss.
_UNBALANCED = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """N labelled rows; the position of each is its place."""

    rows: pa.Table  # the columns of _COLUMNS
    classes: tuple[str, ...]
    targets: npt.NDArray[np.float32]  # [N, classes], 0 or 1
    exclusive: bool
    sides: npt.NDArray[np.str_]  # [N], of split_of

    def places(self, side: str) -> npt.NDArray[np.int64]:
        """Return the places of one side."""
        return np.flatnonzero(self.sides == side)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """The weight of each row in the loss, 1 on average: [N]."""
        counts = self.targets[self.places("train")].sum(axis=0)
        if not self.exclusive or counts.max() <= _UNBALANCED * counts.min():
            return np.ones(len(self.targets), np.float32)
        each = counts.sum() / (len(counts) * counts)
        weights: npt.NDArray[np.float32] = (self.targets @ each).astype(np.float32)
        return weights

    @property
    def digest(self) -> str:
        """The sha256 of the images, their labels and their sides."""
        columns = [self.rows[name].to_pylist() for name in ("uri", "etag", "content_sha256")]
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self.targets.tobytes())
        for row in zip(*columns, strict=True):
            digest.update("\0".join(map(str, row)).encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()

    def in_order(self, classes: Sequence[str]) -> Task:
        """Return the same with its classes in another order."""
        order = [self.classes.index(name) for name in classes]
        return Task(self.rows, tuple(classes), self.targets[:, order], self.exclusive, self.sides)

    def without(self, places: Sequence[int]) -> Task:
        """Return the same with some rows on no side."""
        sides = self.sides.copy()
        sides[list(places)] = ""
        return Task(self.rows, self.classes, self.targets, self.exclusive, sides)


def read_task(table: Table, labels: str) -> Task:
    """Read the labelled rows of a features table. Rows without a label are counted and left out.

    Args:
        table: In the version that was opened.
        labels: Of ``read_labels``.

    Raises:
        UserError: There are no rows, no labels, or a label without an image to learn from.
        Damaged: A part cannot be read.
    """
    rows = table.read([*_COLUMNS, *(CARRIED[:1] if table.carried else ())])
    if not rows.num_rows:
        raise UserError(f"the table {table.url} has no rows; run 'image-features extract' first")
    # The same order in every start.
    rows = rows.sort_by("uri")
    found = read_labels(labels, rows)
    if found.unlabelled:
        _LOG.info("%s images have no label and are left out", f"{found.unlabelled:,}")
    keep = [place for place, of_row in enumerate(found.of_rows) if of_row]
    targets = np.zeros((len(keep), len(found.classes)), np.float32)
    for place, kept in enumerate(keep):
        targets[place, list(found.of_rows[kept])] = 1
    rows = rows.select(list(_COLUMNS)).take(pa.array(keep, pa.int64()))
    sides = np.array([split_of(sha256) for sha256 in rows["content_sha256"].to_pylist()])
    task = Task(rows, found.classes, targets, found.exclusive, sides)
    check(task)
    return task


def check(task: Task) -> None:
    """Check that each label has an image to learn from.

    Raises:
        UserError: One has none.
    """
    counts = task.targets[task.places("train")].sum(axis=0)
    missing = [name for name, count in zip(task.classes, counts, strict=True) if not count]
    if missing:
        some = ", ".join(printable(name) for name in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        raise UserError(
            f"no image to learn from has one of these labels: {some}{more} (of all images, one in "
            "ten is kept for validation and one in ten for the test); add images, or leave these "
            "labels out"
        )


def sides_text(task: Task) -> str:
    """Return the numbers of images and classes as text."""
    counts = Counter(task.sides.tolist())
    parts = [f"{counts[side]:,} for {side}" for side in ("train", "validation", "test")]
    return f"{len(task.classes):,} classes; images: {', '.join(parts)}"
