"""The recipe: everything that determines a vector, as canonical JSON whose sha256 is its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from transforms.choices import ResizeMode, split_resize
from transforms.errors import UserError

# Flat, so that a difference reads field by field.
Recipe = Mapping[str, str | int | float | bool | None]
# The fields that determine labels and scores alone. All others determine the vector too.
_LABEL_FIELDS = ("head", "labels", "scores", "top_k")


def resize_fields(mode: ResizeMode) -> dict[str, str]:
    """Return what a recipe says of resizing."""
    fit, kernel = split_resize(mode)
    # A crop of an earlier version took parts of pixels at its edges.
    whole = "-whole-pixels" if fit == "crop" else ""
    return {"resize": mode, "resize_kernel": f"{kernel}-antialias-8bit{whole}"}


def resize_in(recipe: Recipe) -> ResizeMode:
    """Return how images were resized for the vectors of a recipe.

    Raises:
        UserError: An earlier version of this program resized them in a way that is gone.
    """
    mode: Any = recipe["resize"]
    known = resize_fields(mode)["resize_kernel"]
    seen = recipe.get("resize_kernel", known)
    if seen != known:
        raise UserError(
            f"the vectors were made by an earlier version, which resized images by {seen}, and not "
            f"by {known}. 'image-features extract --rebuild' makes them anew"
        )
    return cast(ResizeMode, mode)


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
