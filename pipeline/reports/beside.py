"""Tell in a line each what was made from a features table: its index, and its near-duplicates."""

from __future__ import annotations

import pyarrow.compute as pc

from pipeline.grouping.store import Store
from pipeline.indexing.facts import fits, read_all_facts
from pipeline.reports.text import counted, size_text
from pipeline.tables import Table
from transforms.errors import Damaged, UserError, first_line
from transforms.names import printable
from transforms.storage import Storage, StorageError


def lines_beside(output: Storage, features: Table) -> list[str]:
    """Return a line for the index and one for the groups of near-duplicates, if they are there.

    Damage is a line too: nothing else of the output needs them.

    Args:
        output: Folder of the tables.
        features: The table that they were made from.
    """
    if features.version is None:
        return []
    lines = []
    for name, describe in (("index", _index), ("duplicates", _groups)):
        try:
            text = describe(output, features)
        except Damaged as error:
            text = error.what
        except (StorageError, UserError) as error:
            text = first_line(error)
        if text:
            lines.append(printable(f"{name:<10}  {text}"))
    return lines


def _index(output: Storage, features: Table) -> str:
    """Describe the newest index that search can use; "" without one."""
    for facts in read_all_facts(output, features.name):
        if isinstance(facts, str):
            return facts
        if fits(facts, features):
            size = size_text(sum(file.size for file in facts.files))
            standing = _standing(facts.version, features)
            return f"{facts.rows:,} rows, {size}, recall@10 {facts.recall:.4f}; {standing}"
    return ""


def _groups(output: Storage, features: Table) -> str:
    """Describe the groups of near-duplicates; "" when they were never looked for."""
    store = Store(output, features.pair)
    done = store.done()
    if done is None:
        return ""
    rows = store.read()
    groups = counted(len(pc.unique(rows["group"])), "group")
    if done.table_id != features.table_id:
        standing = "of another table"
    elif done.version == features.version and not done.stands_for(features):
        standing = f"of another version {done.version}, as in a copy of the table"
    else:
        standing = _standing(done.version, features)
    return f"{rows.num_rows:,} images in {groups}; {standing}"


def _standing(version: int, features: Table) -> str:
    if version == features.version:
        return "up to date"
    return f"of version {version}, the newest is {features.version}"
