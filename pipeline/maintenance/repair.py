"""Repair: parts that are gone or damaged leave their table, and the next night does their images again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config import Config
from pipeline.state.run import new_run_id
from pipeline.tables import Tables
from pipeline.tables.table import Commit, Table, TableName
from transforms.errors import Damaged, UserError
from transforms.parts.write import read_part
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
_CHECKS = 2  # parts at once, each up to 64 MB
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repair:
    """What left one table."""

    table: TableName
    # What is wrong with each of the parts
    found: tuple[str, ...]
    rows: int  # of those parts
    version: int

    def __str__(self) -> str:
        parts = "1 damaged part" if len(self.found) == 1 else f"{len(self.found):,} damaged parts"
        return (
            f"took {parts} with {self.rows:,} rows out of {self.table}: version {self.version}; "
            f"the next run does their images again ({self.found[0]})"
        )


def repair(output: str, stores: Stores = ()) -> list[Repair]:
    """Read every part of both tables, and take out those that are not what was written, in one commit a table.

    A run that is not finished starts anew then. Raises ``UserError`` where there is no table,
    ``StorageError`` when the output does not answer: then nothing is known to be damaged, and
    nothing leaves.
    """
    storage = open_storage(output, stores)
    tables = [table for table in Tables.open(storage) if table.version is not None]
    if not tables:
        raise UserError(f"nothing in {output}: no run has published there")
    run_id = new_run_id(storage)
    found = [(table, _find_damaged(table)) for table in tables]
    return [_take_out(table, damaged, run_id) for table, damaged in found if damaged]


def healed(config: Config, night: Callable[[], T]) -> T:
    """Do what ``night`` does; where damage stops it, take the damaged parts out and do it once more."""
    try:
        return night()
    except Damaged as error:
        done = [] if config.dry_run or config.planned else repair(config.output, config.stores)
        if not done:
            raise
        _LOG.warning("%s", error.what)
    for table in done:
        _LOG.warning("%s", table)
    return night()


def _find_damaged(table: Table) -> dict[str, str]:
    """The path of each damaged part, and what is wrong with it."""

    def look(path: str) -> str:
        try:
            read_part(table.storage, path)
        except Damaged as error:
            return error.what
        return ""

    paths = sorted(str(part["path"]) for part in table.parts)
    with ThreadPoolExecutor(_CHECKS) as pool:
        return {path: what for path, what in zip(paths, pool.map(look, paths), strict=True) if what}


def _take_out(table: Table, damaged: dict[str, str], run_id: str) -> Repair:
    rows = sum(part["num_records"] for part in table.parts if part["path"] in damaged)
    version = table.commit(Commit(run_id, [], list(damaged), operation="repair"))
    return Repair(table.name, tuple(damaged.values()), rows, version)
