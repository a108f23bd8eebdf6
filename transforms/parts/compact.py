"""Compact: many small parts → few, each sorted by uri.

No row changes, and no vector is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms import parquet
from transforms.parts.write import Part, read_part, read_recipe, write_part
from transforms.storage import Storage

# Some 12,000 to 20,000 vectors of 1280. A larger part would save readers little, and cost a later
# run much: it writes anew each part in which an image has changed. Merging parts to this size takes
# 0.7 GB of memory.
TARGET_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SmallPart:
    """What the grouping needs to know of a part."""

    path: str
    size: int  # bytes
    first_uri: str


def is_small(size: int, target: int = TARGET_BYTES) -> bool:
    """Whether a part of ``size`` bytes should be merged: two of them fit in one of the target size."""
    return size < target // 2


def group_parts(parts: Sequence[SmallPart], target: int = TARGET_BYTES) -> list[list[str]]:
    """Which parts become one: neighbours by uri, up to ``target`` bytes; a part that would be alone stays.

    Each group but the last comes to more than half of ``target``: no part of it is small again.
    """
    groups: list[list[str]] = []
    room = 0
    for part in sorted(parts, key=lambda part: (part.first_uri, part.path)):
        if not groups or part.size > room:
            groups.append([])
            room = target
        groups[-1].append(part.path)
        room -= part.size
    return [group for group in groups if len(group) > 1]


def merge_parts(storage: Storage, paths: Sequence[str], run_id: str) -> Part:
    """Write the rows of the parts at ``paths`` as one part, and leave those as they are.

    Types, values and the recipe in the metadata stay: vectors keep their fixed length, bit by bit.
    Raises ``Damaged`` for a part that is not what was written.
    """
    tables = []
    for path in paths:
        encoded = read_part(storage, path)
        tables.append(parquet.read(encoded))
    return write_part(
        storage, pa.concat_tables(tables), "", f"part-{run_id}-merged", read_recipe(encoded)
    )
