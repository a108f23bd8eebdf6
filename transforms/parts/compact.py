"""Merge many small parts into few, each sorted by uri, without changing any row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms.parts.write import Part, decode_part, read_part, read_recipe, write_part
from transforms.storage import Storage

# Some 12,000 to 20,000 vectors of 1280. A larger part would save readers little and cost later runs
# much, which rewrite each part in which an image has changed. Merging parts to this size takes
# 0.7 GB of memory.
TARGET_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SmallPart:
    """What grouping needs to know about a part."""

    path: str
    size: int  # bytes
    first_uri: str


def is_small(size: int, target: int = TARGET_BYTES) -> bool:
    """Tell whether to merge a part: whether two of ``size`` bytes fit in ``target`` bytes."""
    return size < target // 2


def group_parts(parts: Sequence[SmallPart], target: int = TARGET_BYTES) -> list[list[str]]:
    """Group neighbours by uri, up to ``target`` bytes; a part that would be alone is left out.

    Each group but the last exceeds half of ``target``, so that the merged part is not small again.

    Args:
        parts: The small parts.
        target: Max size of a merged part, in bytes.

    Returns:
        The paths of each group.
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
    """Write the rows of the parts at ``paths`` as one new part; the old parts stay.

    Types, values and the recipe in the metadata stay the same, vectors bit by bit. Columns that did
    not exist when a part was written are added as nulls.

    Args:
        storage: The table's folder.
        paths: At least one part, relative to the table.
        run_id: The run, for the new part's name.

    Raises:
        Damaged: For a part that is missing, or whose bytes differ from what was written.
    """
    tables = []
    for path in paths:
        encoded = read_part(storage, path)
        tables.append(decode_part(encoded))
    return write_part(
        storage,
        pa.concat_tables(tables, promote_options="permissive"),
        "",
        f"part-{run_id}-merged",
        read_recipe(encoded),
    )
