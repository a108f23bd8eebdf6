"""What an unfreezing learns from: the rows of a table with their labels, sides and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.tables import Table
from pipeline.training.examples import SIDES, Examples, read_examples
from pipeline.training.head import class_weights
from transforms.errors import UserError
from transforms.names import printable

# What a reference of an image needs, and the bytes that it had.
_COLUMNS = ("etag", "size", "modified", "content_sha256", "width", "height")
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """N labelled rows; the position of each is its place."""

    rows: pa.Table  # uri and _COLUMNS
    classes: tuple[str, ...]
    targets: npt.NDArray[np.float32]  # [N, classes], 0 or 1
    exclusive: bool
    sides: npt.NDArray[np.str_]  # [N], words of SIDES; "" for a row that is not used
    weights: npt.NDArray[np.float32]  # [N], of each row in the loss

    def places(self, side: str) -> npt.NDArray[np.int64]:
        """Return the places of one side."""
        return np.flatnonzero(self.sides == side)

    @property
    def digest(self) -> str:
        """The sha256 of the images, their labels and their sides."""
        columns = [self.rows[name].to_pylist() for name in ("uri", "etag", "content_sha256")]
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self.targets.tobytes())
        for row in zip(*columns, self.sides.tolist(), strict=True):
            digest.update("\0".join(map(str, row)).encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()

    def in_order(self, classes: Sequence[str]) -> Task:
        """Return the same with its classes in another order."""
        order = [self.classes.index(name) for name in classes]
        return replace(self, classes=tuple(classes), targets=self.targets[:, order])

    def without(self, places: Sequence[int]) -> Task:
        """Return the same with some rows on no side."""
        sides = self.sides.copy()
        sides[list(places)] = ""
        return replace(self, sides=sides)


def read_task(
    features: Table, labels: str, split_column: str | None = None
) -> tuple[Examples, Task]:
    """Read the labelled rows of a table, by number for their vectors and whole for their images.

    Args:
        features: As for ``read_examples``.
        labels: Likewise.
        split_column: Likewise.

    Raises:
        UserError: The table has no rows, the labels cannot be used, or no row is for training.
        Damaged: A part cannot be read.
    """
    examples = read_examples(features, labels, split_column, _COLUMNS)
    targets = examples.targets
    used = np.flatnonzero(examples.sides >= 0)
    # The same order in every start, also when compact has merged parts meanwhile.
    used = used[np.argsort(np.array(examples.rows["uri"].to_pylist(), object)[used], kind="stable")]
    matrix = targets.matrix(used)
    weights = class_weights(targets, examples.numbers("train"))
    task = Task(
        rows=examples.rows.take(pa.array(used)),
        classes=targets.classes,
        targets=matrix,
        exclusive=targets.exclusive,
        sides=np.array(SIDES)[examples.sides[used]],
        weights=np.ones(len(used), np.float32) if weights is None else matrix @ weights,
    )
    return examples, task


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
