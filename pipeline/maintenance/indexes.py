"""Which files of indexes must stay, and whether an index is what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.indexing.facts import fits, read_all_facts
from pipeline.indexing.files import IndexDamaged, check_whole
from pipeline.tables import Table
from transforms.parts.check import Problem
from transforms.storage import Storage


def index_files(tables: Sequence[Table], storage: Storage, young: Sequence[str]) -> Iterator[str]:
    """Yield the files of the newest index of each table, and of indexes with young facts."""
    for table in tables:
        needed = False
        for facts in read_all_facts(storage, table.name):
            if isinstance(facts, str):
                continue
            is_newest = not needed and table.version is not None and fits(facts, table)
            if is_newest or facts.key in young:
                yield from (facts.key, *map(facts.file_key, facts.files))
            needed = needed or is_newest


def index_problems(table: Table, storage: Storage) -> Iterator[Problem]:
    """Yield what is wrong with the newest index of a table, which search would not use then."""
    instead = "search is exact instead; 'image-features index OUTPUT' makes the index anew"
    for facts in read_all_facts(storage, table.name):
        if isinstance(facts, str):
            yield Problem("index", table.name, f"{facts}; {instead}")
        elif fits(facts, table):
            for file in facts.files:
                try:
                    check_whole(storage, facts, file)
                except IndexDamaged as error:
                    yield Problem("index", table.name, f"{error}; {instead}")
            return
