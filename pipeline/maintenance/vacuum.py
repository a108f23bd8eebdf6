"""Vacuum: delete the files that no kept version and no resumable run needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from time import monotonic

from pipeline.indexing.facts import is_facts
from pipeline.maintenance.announce import announce_deletion, storage_time
from pipeline.maintenance.garbage import (
    Freed,
    Garbage,
    Kept,
    find_garbage,
    is_leftover,
    is_old,
)
from pipeline.maintenance.indexes import index_files
from pipeline.maintenance.ours import is_ours, our_folders, run_of_part
from pipeline.state.night import night_of
from pipeline.state.run import Run, load_runs
from pipeline.tables import Table, Tables, groups_table, pair_names
from pipeline.tables.history import current_since, last_run, versions_of
from transforms.backbones.exported import network_ids
from transforms.errors import Damaged, Refused
from transforms.parts.write import read_part, read_recipe
from transforms.recipe import Recipe
from transforms.storage import Storage, local_path, open_storage
from transforms.storage.local import unlisted
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
# The min of --older-than: an active run or compaction, or a reader, may need younger files. Vacuum
# warns when the clocks differ by more.
MIN_AGE = timedelta(hours=1)
# Deletions at once: each takes some 20 ms in a bucket.
_DELETES = 16
# Vacuum keeps the newest run of each state but these.
_WITHOUT_RESULT = ("planned", "refused", "superseded")
# A folder counts as complete when it holds this file. It is deleted first, like the facts of an
# index, so that an interrupted deletion leaves nothing that looks complete.
_MARKERS = ("/run.json", "/model.json")
# Files that are announced and deleted together.
_BATCH = 1000


def vacuum(
    output: str | PathLike[str],
    older_than: timedelta,
    dry_run: bool = False,
    now: datetime | None = None,
    stores: Stores = (),
) -> Freed:
    """Delete old files that are not needed.

    These stay: the parts of the newest version, and of each version that readers saw within
    ``older_than``; all files of a run that the next start may resume; the folders of the runs that
    wrote those versions, and of the last published and the last unchanged run; the networks in
    those versions' recipes; the newest index of each table; and files that this program did not
    write.

    Args:
        output: Folder or URL of the tables.
        older_than: Files younger than this stay.
        dry_run: Find the files, and delete nothing.
        now: The time that ages count from; by default the time of the storage's clock.
        stores: Where buckets are.

    Returns:
        What was deleted, or would be.

    Raises:
        UserError: No run has published there.
        Damaged: No part of a recipe can be read.
        Refused: A commit is under way, or another command has changed the output since vacuum
            looked; or the deletion takes too long.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    folders = our_folders(storage)
    entries = [entry for folder in folders for entry in storage.list(folder)]
    hidden = [
        entry
        for entry in unlisted(output)
        if entry.key.startswith(tuple(f"{folder}/" for folder in folders))
    ]
    # Load the runs before the tables: so a run that publishes now is in one or the other.
    nights = load_runs(storage, limit=1_000_000)
    runs = [run for first in nights for run in night_of(first, storage)]
    tables = _all_tables(storage)
    cutoff = (now or _now(storage, dry_run)) - older_than
    young = [entry.key for entry in entries if not is_old([entry], cutoff)]
    kept = _kept(tables, runs, storage, cutoff, young)
    ours = [entry for entry in entries if is_ours(entry.key)]
    found = find_garbage(ours, hidden, kept, cutoff)
    if not dry_run:
        noted = {entry.key.split("/")[1] for entry in entries if entry.key.endswith("/run.json")}
        _delete(storage, found, partial(_check_same, storage, tables, noted))
    others = [entry.key for entry in entries if not is_ours(entry.key)]
    others += [entry.key for entry in hidden if not is_leftover(entry)]
    return Freed(tuple(found), tuple(sorted(others)), cutoff, dry_run)


def _all_tables(storage: Storage) -> list[Table]:
    """Return the tables of all backbones, with those of near-duplicates.

    Raises:
        UserError: No run has published there.
    """
    names = pair_names(storage)
    pairs = [Tables.open(storage, name) for name in names]
    if all(pair.features.version is None for pair in pairs):
        Tables.published(storage)
    groups = [groups_table(storage, name) for name in names]
    return [*(table for pair in pairs for table in pair), *groups]


def _now(storage: Storage, dry_run: bool) -> datetime:
    """Return the time of the storage's clock; if this machine's clock is fast, all looks old.

    A dry run uses this machine's clock: it deletes nothing, and must not write to the storage.
    """
    here = datetime.now(UTC)
    there = None if dry_run else storage_time(storage)
    if there and abs(there - here) > MIN_AGE:
        _LOG.warning(
            "this machine's clock says %s, and that of %s says %s: the latter counts",
            here,
            storage.url,
            there,
        )
    return there or here


def _active(young: Sequence[str]) -> set[str]:
    """Return the runs that wrote the young files: even a superseded run may still be active."""
    places = [key.split("/")[1] for key in young if not key.startswith(("models/", "index/"))]
    return {run_of_part(place) or place for place in places}


def _kept(
    tables: Sequence[Table],
    runs: Sequence[Run],
    storage: Storage,
    cutoff: datetime,
    young: Sequence[str],
) -> Kept:
    """Collect what must stay."""
    active = _active(young)
    parts: set[str] = set()
    run_ids: set[str] = set()
    # A recipe's id → the parts that were made with it, newest version first.
    parts_of_recipe: dict[str, list[str]] = {}
    for table in tables:
        versions = versions_of(table.history())
        # Verify compares the receipts of this run with the tables.
        run_ids.add(last_run(versions) or "")
        for version in current_since(versions, cutoff):
            run_ids.add(version.run_id)
            for part in table.at(version.number).parts:
                key = table.key(part["path"])
                parts.add(key)
                if table.kind == "features":
                    parts_of_recipe.setdefault(part["min.recipe"], []).append(key)
    recipes = [_recipe_of(storage, keys) for keys in parts_of_recipe.values()]
    unfinished = {run.run_id for run in runs[:1] if run.state == "planned"}
    active = active | unfinished
    recipes += [run.recipe for run in runs if run.run_id in active]
    newest_good = {
        (run.table, run.state): run.run_id
        for run in reversed(runs)
        if run.state not in _WITHOUT_RESULT
    }
    return Kept(
        parts=frozenset(parts),
        runs=frozenset(run_ids | set(newest_good.values()) | active),
        models=frozenset(own for recipe in recipes for own in network_ids(recipe)),
        index_files=frozenset(index_files(tables, storage, young)),
        active=frozenset(active),
    )


def _recipe_of(storage: Storage, keys: Sequence[str]) -> Recipe:
    """Read the recipe that parts share from the first sound one; raise ``Damaged`` if none is."""
    for key in keys[:-1]:
        with suppress(Damaged):
            return read_recipe(read_part(storage, key))
    return read_recipe(read_part(storage, keys[-1]))


def _delete(storage: Storage, found: Sequence[Garbage], check: Callable[[], None]) -> None:
    """Delete in batches: announce each, then check that nobody needs it by now.

    Raises:
        Refused: Another process may need the files.
    """
    files = sorted(
        (key for garbage in found for key in garbage.files),
        key=lambda key: not (key.endswith(_MARKERS) or is_facts(key)),
    )
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        with announce_deletion(storage, batch) as until, ThreadPoolExecutor(_DELETES) as pool:
            check()
            list(pool.map(partial(_delete_file, storage, until), batch))
    for garbage in found:
        folder = local_path(f"{storage.url}/{garbage.key}")
        if folder is not None and garbage.kind in ("run", "model"):
            _remove_empty(folder)


def _delete_file(storage: Storage, until: float, key: str) -> None:
    """Delete one file; raise ``Refused`` after the moment ``until`` of the monotonic clock."""
    if monotonic() > until:
        raise Refused(
            f"{storage.url} is too slow, or this process was paused; the rest stays. Run vacuum "
            "again."
        )
    storage.delete(key)


def _check_same(storage: Storage, tables: Sequence[Table], noted: set[str]) -> None:
    """Raise ``Refused`` when a run was planned or a commit was made since vacuum looked.

    The plan of a run names the network that it needs.
    """
    for run_id in set(storage.folders("runs/")) - noted:
        if storage.exists(f"runs/{run_id}/run.json"):
            raise Refused(
                f"run {run_id} has begun meanwhile; nothing more was deleted. Run vacuum again."
            )
    for table in tables:
        if table.newest().version != table.version:
            raise Refused(
                f"another command changed the {table.name} table meanwhile; nothing more was "
                "deleted. Run vacuum again."
            )


def _remove_empty(folder: Path) -> None:
    """Remove the empty folders in a local folder, and the folder itself."""
    for parent, _, _ in os.walk(folder, topdown=False):
        # A folder that holds a foreign file cannot be removed.
        with suppress(OSError):
            Path(parent).rmdir()
