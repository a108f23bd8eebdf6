"""A head: a classifier that ``image-features train`` made of stored vectors.

``head.keras`` takes vectors and gives scores. ``head.json`` beside it says of which recipe the
vectors are, and names the labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from transforms.backbones.network import import_keras
from transforms.errors import UserError, first_line
from transforms.recipe import Recipe, recipe_id

_FORMAT = "beam-image-features head"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """What ``head.json`` says."""

    sha256: str  # of head.keras, 64 hexadecimal digits
    # Of the table whose vectors it was trained on.
    recipe: Recipe
    labels: tuple[str, ...]  # one for each score
    # Whether one label excludes the others: the scores of an image add up to 1.
    exclusive: bool
    # The logits are divided by it, inside head.keras.
    temperature: float = 1.0
    # How it was trained, and its metrics: anything that JSON holds.
    training: Mapping[str, Any] = field(default_factory=dict)


def path_beside(head: Path) -> Path:
    """Return where the description of a head lies."""
    return head.with_suffix(".json")


def encode(facts: HeadFacts) -> bytes:
    """Return the content of ``head.json``."""
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "sha256": facts.sha256,
        "recipe": recipe_id(facts.recipe),
        "recipe_fields": dict(facts.recipe),
        "labels": list(facts.labels),
        "exclusive": facts.exclusive,
        "temperature": facts.temperature,
        "training": dict(facts.training),
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def load_head(path: Path, dimension: int, classes: int) -> Any:
    """Load a head with Keras.

    Args:
        path: Of ``head.keras``.
        dimension: Numbers in a vector.
        classes: The number of labels.

    Returns:
        A ``keras.Model``: float32 [N, dimension] → scores float32 [N, classes].

    Raises:
        UserError: Keras cannot load it, or it takes or gives something else.
    """
    if not is_zipfile(path):
        raise UserError(f"--head {path}: is no file of Keras; train the head again")
    keras = import_keras()
    try:
        head = keras.models.load_model(path, compile=False, safe_mode=True)
        shapes = tuple(head.input_shape), tuple(head.output_shape)
    except Exception as error:  # Keras raises many kinds
        raise UserError(
            f"--head {path}: Keras cannot load it ({first_line(error)}); train the head again"
        ) from error
    if shapes != ((None, dimension), (None, classes)):
        raise UserError(
            f"--head {path}: takes {list(shapes[0])} and gives {list(shapes[1])}; this network "
            f"gives {[None, dimension]}, and there are {classes} labels"
        )
    return head
