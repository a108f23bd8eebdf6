"""Repair: remove missing and damaged parts, so that the next night processes their images again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TypeVar

from pipeline.config import Config
from pipeline.grouping.store import is_ours
from pipeline.state.run import new_run_id
from pipeline.tables import Tables, check_name, groups_table, is_groups
from pipeline.tables.commit import Commit
from pipeline.tables.table import Table
from transforms.errors import Damaged, UserError
from transforms.parts.write import read_part
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# Parts checked at once, each up to 64 MB.
_CHECKS = 2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Repair:
    """The parts that were removed from one table."""

    table: str
    # One message per part: what is wrong with it.
    found: tuple[str, ...]
    rows: int  # of those parts
    version: int

    def __str__(self) -> str:
        parts = "1 damaged part" if len(self.found) == 1 else f"{len(self.found):,} damaged parts"
        again = (
            "'image-features duplicates OUTPUT' makes the groups anew"
            if is_groups(self.table)
            else "the next run does their images again"
        )
        return (
            f"took {parts} with {self.rows:,} rows out of {self.table}: version {self.version}; "
            f"{again} ({self.found[0]})"
        )


def repair(output: str | PathLike[str], stores: Stores = (), table: str = "") -> list[Repair]:
    """Read every part of a pair of tables and remove the damaged ones, in one commit per table.

    A part is damaged when it is missing or differs from what was written. An unfinished run starts
    over afterwards. The groups of near-duplicates of the pair are checked too.

    Args:
        output: Folder or URL of the tables.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Returns:
        One result for each table that changed.

    Raises:
        UserError: No run has published there.
        StorageError: The output does not answer. Then no part is known to be damaged, and none is
            removed.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    if table:
        check_name(storage, table)
    tables = [own for own in Tables.open(storage, table) if own.version is not None]
    if not tables:
        raise UserError(f"nothing in {output}: no run has published there")
    groups = groups_table(storage, table)
    tables += [groups] if groups.version is not None and is_ours(groups) else []
    run_id = new_run_id(storage)
    found = [(own, _find_damaged(own)) for own in tables]
    return [_remove(own, damaged, run_id) for own, damaged in found if damaged]


def run_with_repair(config: Config, night: Callable[[], T]) -> T:
    """Run ``night``; if damage stops it, remove the damaged parts and run it once more.

    Args:
        config: Options of the run. A dry run, or the shards of a planned run, repair nothing.
        night: The run.

    Returns:
        What ``night`` returns.

    Raises:
        Damaged: Repair removed nothing, or ``night`` meets damage again.
    """
    try:
        return night()
    except Damaged as error:
        done = [] if config.dry_run or config.planned else _repair_all(config)
        if not done:
            raise
        _LOG.warning("%s", error.what)
    for table in done:
        _LOG.warning("%s", table)
    return night()


def _repair_all(config: Config) -> list[Repair]:
    """Repair the tables of all backbones of a run that have been written."""
    storage = open_storage(config.output, config.stores)
    written = [
        target.table
        for target in config.targets
        if any(own.version is not None for own in Tables.open(storage, target.table))
    ]
    return [done for table in written for done in repair(config.output, config.stores, table)]


def _find_damaged(table: Table) -> dict[str, str]:
    """Return the path of each damaged part, with what is wrong with it."""

    def check(path: str) -> str:
        try:
            read_part(table.storage, path)
        except Damaged as error:
            return error.what
        return ""

    paths = sorted(str(part["path"]) for part in table.parts)
    with ThreadPoolExecutor(_CHECKS) as pool:
        return {
            path: what for path, what in zip(paths, pool.map(check, paths), strict=True) if what
        }


def _remove(table: Table, damaged: dict[str, str], run_id: str) -> Repair:
    """Commit the removal of damaged parts."""
    rows = sum(part["num_records"] for part in table.parts if part["path"] in damaged)
    version = table.commit(Commit(run_id, [], list(damaged), operation="repair"))
    return Repair(table.name, tuple(damaged.values()), rows, version)
