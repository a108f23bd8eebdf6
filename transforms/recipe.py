"""The recipe: everything that determines a vector, as canonical JSON whose sha256 is its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

# Flat, so that a difference reads field by field.
Recipe = Mapping[str, str | int | float | bool | None]
# The fields that determine labels and scores alone. All others determine the vector too.
_LABEL_FIELDS = ("head", "labels", "scores", "top_k")


def canonical_json(recipe: Recipe) -> str:
    """Return the one way to write a recipe: keys sorted, no spaces, UTF-8."""
    return json.dumps(dict(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def recipe_id(recipe: Recipe) -> str:
    """Return the sha256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Return the fields that differ, one line each: ``resize: squash → crop``."""
    names = sorted(set(old) | set(new))
    return [
        f"{name}: {old.get(name, '(none)')} → {new.get(name, '(none)')}"
        for name in names
        if old.get(name) != new.get(name)
    ]


def vector_fields(recipe: Recipe) -> Recipe:
    """Return the fields that determine the vector, without those of labels and scores."""
    return {name: value for name, value in recipe.items() if name not in _LABEL_FIELDS}
