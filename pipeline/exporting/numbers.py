"""Vectors in other number formats."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from transforms.errors import UserError
from transforms.parts.vectors import Vectors


def as_numbers(vectors: Vectors, numbers: str) -> np.ndarray:
    """Convert vectors, float32 [n, D].

    Args:
        vectors: The vectors.
        numbers: float16, float32 or float64.

    Returns:
        [n, D] in C order and little-endian.

    Raises:
        UserError: A number is too large for float16.
    """
    kind = np.dtype(numbers).newbyteorder("<")
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(vectors, kind)
    if numbers == "float16" and not np.isfinite(converted).all():
        raise UserError(
            "a vector holds numbers above 65,504, which float16 cannot express. Export float32"
        )
    return converted


def as_lists(vectors: Vectors, numbers: str, fixed: bool) -> pa.Array:
    """Return vectors, float32 [n, D], as lists of float16, float32 or float64 numbers [n].

    Args:
        vectors: The vectors.
        numbers: The type of the numbers.
        fixed: Whether the type states the length of the lists.
    """
    values = pa.array(as_numbers(vectors, numbers).reshape(-1))
    if fixed:
        return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
