"""Expand numeric ranges in a path or URL, such as WebDataset's ``shards/{00000..00099}.tar``."""

from __future__ import annotations

import itertools
import re

from transforms.errors import UserError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}", re.ASCII)
_MAX = 1_000_000


def has_range(text: str) -> bool:
    """Tell whether a text holds a numeric range."""
    return _RANGE.search(text) is not None


def expand(text: str) -> list[str]:
    """Return the names that a text with ranges stands for, in their order.

    Numbers have as many digits as the first one: ``{08..10}`` gives 08, 09, 10.

    Raises:
        UserError: A range that runs backwards, or over a million names.
    """
    parts = _RANGE.split(text)
    choices: list[list[str]] = [[parts[0]]]
    count = 1
    for first, last, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        start, end = int(first[-18:]), int(last[-18:])
        if end < start:
            raise UserError(f"{text!r}: the range {{{first}..{last}}} runs backwards")
        count *= end - start + 1
        if count > _MAX:
            raise UserError(f"{text!r} stands for more than {_MAX:,} names")
        choices += [[f"{number:0{len(first)}d}" for number in range(start, end + 1)], [rest]]
    return ["".join(choice) for choice in itertools.product(*choices)]
