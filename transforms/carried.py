"""Carried columns: values of a manifest or container that a row of the features table keeps.

On their way they are one JSON text for each image. The table holds them in the struct column
``source``, with types: integers become int64, other numbers float64, times text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from transforms.errors import UserError

_EVERYTHING = "all"
# Structs and lists within each other.
_MAX_DEPTH = 32
# JSON can spell half a character, which no table can hold.
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Carry:
    """The columns to carry, by name; ``("all",)`` stands for all, and () for none."""

    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def everything(self) -> bool:
        """Whether all columns are carried that can be."""
        return self.names == (_EVERYTHING,)

    def takes(self, name: str) -> bool:
        """Tell whether a column is carried."""
        return self.everything or name in self.names

    def encode(self, values: Mapping[str, Any]) -> str | None:
        """Return the carried ones of an image's values as canonical JSON; None if there are none.

        Raises:
            UserError: A value cannot be carried, such as bytes, or is nested too deeply.
        """
        taken = {
            name: value
            for name, value in values.items()
            if value is not None
            and self.takes(name)
            and not (self.everything and isinstance(value, bytes))
        }
        if not taken:
            return None
        if _is_too_deep(taken):
            raise UserError(
                f"--carry: a value nests lists and structs more than {_MAX_DEPTH} deep; "
                "flatten it, or carry other columns"
            )
        text = json.dumps(taken, sort_keys=True, ensure_ascii=False, default=_plain)
        return _HALF.sub("\N{REPLACEMENT CHARACTER}", text)


def parse(text: str | bytes) -> dict[str, Any] | None:
    """Parse the JSON object that someone else wrote; None if it is none."""
    try:
        values = json.loads(text, parse_int=_number)
        # A deeper one would break what comes later.
        return values if isinstance(values, dict) and not _is_too_deep(values) else None
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> int | float:
    return (
        int(digits) if len(digits) < 20 and -(1 << 63) <= int(digits) < 1 << 63 else float(digits)
    )


def _is_too_deep(value: Any) -> bool:
    try:
        return _depth(value) > _MAX_DEPTH
    except RecursionError:
        return True


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


# No column.
NOTHING = Carry()


def _plain(value: Any) -> Any:
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta | UUID):
        return str(value)
    raise UserError(
        f"--carry: a value of type {type(value).__name__} cannot be carried; numbers, texts, "
        "times, lists and structs of them can"
    )


def hash_of(source: str | None) -> int | None:
    """Return 64 bits of the sha256 of carried values as a signed number; None for None."""
    if source is None:
        return None
    digest = hashlib.sha256(source.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
