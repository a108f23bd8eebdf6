"""Values as JSON can express them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pyarrow as pa


def plain(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column: times as ISO 8601, and numbers that are not finite as None."""
    values = column.to_pylist()
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
        return list(values)
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value
