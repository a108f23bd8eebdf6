"""A mean and a deviation of red, green and blue: as options, and as a recipe names them."""

from __future__ import annotations

import math
import re
from typing import Any

from transforms.errors import UserError

Colors = tuple[float, float, float]  # red, green, blue, of pixels / 255
_NUMBER = r"(-?[0-9][0-9.e+-]*)"
_TEXT = re.compile(f"mean {_NUMBER},{_NUMBER},{_NUMBER} std {_NUMBER},{_NUMBER},{_NUMBER}")


def read_colors(name: str, text: str) -> tuple[float, ...]:
    """Read the numbers of ``--mean`` and ``--std``; ``check_colors`` checks them.

    Raises:
        UserError: They are no numbers.
    """
    try:
        return tuple(map(float, text.split(",")))
    except ValueError as error:
        raise UserError(
            f"--{name} {text}: must be three numbers with commas, as in 0.485,0.456,0.406"
        ) from error


def check_colors(name: str, values: object) -> Colors | None:
    """Return the numbers of an option; None where it was not given.

    Raises:
        UserError: They are not three numbers, or a deviation is not above 0.
    """
    if values is None:
        return None
    numbers = values if isinstance(values, tuple | list) else ()
    if len(numbers) != 3 or not all(_is_finite(number) for number in numbers):
        raise UserError(f"--{name} {values!r}: must be three numbers: red, green, blue of x/255")
    red, green, blue = map(float, numbers)
    if name == "std" and min(red, green, blue) <= 0:
        raise UserError(f"--std {_comma((red, green, blue))}: must be above 0")
    return red, green, blue


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(float(str(value)))


def check_pair(mean: Colors | None, std: Colors | None, preprocess: str | None) -> None:
    """Check that mean and deviation are given together, and without ``--preprocess``.

    Raises:
        UserError: They are not.
    """
    if (mean is None) != (std is None):
        missing = "std" if std is None else "mean"
        raise UserError(f"--{missing} is missing: give --mean and --std together")
    if std is not None and preprocess is not None:
        raise UserError(
            f"--preprocess {preprocess} has its own mean and deviation; give either it, or --mean "
            "and --std"
        )


def mean_std_text(mean: Colors, std: Colors) -> str:
    """Return a value range as a recipe names it, such as ``mean 0.5,0.5,0.5 std 0.5,0.5,0.5``."""
    return f"mean {_comma(mean)} std {_comma(std)}"


def _comma(numbers: Colors) -> str:
    return ",".join(map(repr, numbers))


def read_mean_std(text: str) -> tuple[Colors, Colors] | None:
    """Return mean and deviation of such a text; None for any other text, such as a mode."""
    found = _TEXT.fullmatch(text)
    try:
        a, b, c, d, e, f = map(float, found.groups() if found else ())
    except ValueError:
        return None
    return (a, b, c), (d, e, f)


def value_options(text: str) -> dict[str, Any]:
    """Return the options of ``BackboneConfig`` that ask for a value range of a recipe."""
    given = read_mean_std(text)
    if given is None:
        return {"preprocess": text, "mean": None, "std": None}
    return {"preprocess": None, "mean": given[0], "std": given[1]}
