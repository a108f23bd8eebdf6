"""Check that the head that an unfreezing starts from fits the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transforms.backbones.head import check_vectors, read_head
from transforms.errors import UserError
from transforms.recipe import Recipe

_SHOWN = 5


def head_labels(path: Path, recipe: Recipe, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a head that is given, in the order of its scores.

    Args:
        path: Of ``head.keras``; ``head.json`` lies beside it.
        recipe: Of the table.
        classes: The labels of the table's images.

    Raises:
        UserError: The head was made for other vectors or other labels, or a file is damaged.
    """
    facts = read_head(path)
    labels = facts.labels
    check_vectors(str(path), facts, recipe)
    if set(labels) != set(classes):
        missing, more = sorted(set(classes) - set(labels)), sorted(set(labels) - set(classes))
        raise UserError(
            f"--head {path}: has other labels than the images: only the images have "
            f"{_some(missing)}; only the head has {_some(more)}"
        )
    return labels


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more
