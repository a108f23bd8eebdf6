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

from transforms.backbones.labels import is_text
from transforms.backbones.network import import_keras
from transforms.backbones.spec import Resolved, file_sha256
from transforms.errors import UserError, first_line
from transforms.recipe import Recipe, differences, recipe_id, vector_fields

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


def read_head(path: Path) -> HeadFacts:
    """Read what lies beside a head, without Keras.

    Raises:
        UserError: A file is missing or damaged, or the two files belong to different heads.
    """
    beside = path_beside(path)
    again = "copy both files of one training here, or train the head again"
    try:
        sha256 = file_sha256(path)
        facts = json.loads(beside.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"--head {path}: {error.filename} cannot be read ({error.strerror}); {again}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--head {path}: {beside.name} is no JSON; {again}") from error
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise UserError(
            f"--head {path}: {beside.name} describes no head of 'image-features train'; {again}"
        )
    if facts.get("version") != _VERSION:
        raise UserError(
            f"--head {path}: {beside.name} has version {facts.get('version')!r}, and this program "
            f"reads version {_VERSION}; use the version of the program that wrote it"
        )
    try:
        found = _decoded(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--head {path}: {beside.name} is damaged ({error}); {again}") from error
    if found.sha256 != sha256:
        raise UserError(f"--head {path}: {beside.name} belongs to another head; {again}")
    return found


def _decoded(facts: Mapping[str, Any]) -> HeadFacts:
    """Check and convert; raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    labels, recipe = facts["labels"], facts["recipe_fields"]
    if not (isinstance(labels, list) and len(labels) > 1 and all(map(is_text, labels))):
        raise ValueError("labels is no list of texts")
    if not isinstance(recipe, dict) or not all(map(_is_flat, recipe.values())):
        raise ValueError("recipe_fields is no flat mapping")
    if not is_text(facts["sha256"]) or not isinstance(facts["exclusive"], bool):
        raise ValueError("sha256 or exclusive has another type")
    return HeadFacts(
        sha256=facts["sha256"],
        recipe=recipe,
        labels=tuple(labels),
        exclusive=facts["exclusive"],
        temperature=float(facts.get("temperature", 1.0)),
        training=dict(facts.get("training") or {}),
    )


def _is_flat(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def open_head(resolved: Resolved) -> Any:
    """Load the head of a choice, as ``load_head`` does."""
    assert resolved.head
    path = Path(str(resolved.config.head)).expanduser()
    return load_head(path, resolved.dimension, len(resolved.head.labels))


def check_vectors(path: str, head: HeadFacts, recipe: Recipe) -> None:
    """Check that a head was trained on such vectors as a recipe makes.

    Args:
        path: As ``--head``.
        head: What lies beside it.
        recipe: Of a run, or of a table.

    Raises:
        UserError: A field that determines the vector differs.
    """
    if changes := differences(vector_fields(head.recipe), vector_fields(recipe)):
        raise UserError(
            f"--head {path}: was trained on vectors of another recipe: {'; '.join(changes)}. Use "
            "the options of the run that made them, or train a head on vectors of these options"
        )


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
