"""Vacuum: delete what no version of the tables, and no run that can go on, needs any more."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic

from pipeline.maintenance.announce import deleting, storage_time
from pipeline.maintenance.garbage import Freed, Garbage
from pipeline.maintenance.ours import FOLDERS, is_ours, is_temporary, run_of_part
from pipeline.state.run import Run, load_runs
from pipeline.tables import Tables
from pipeline.tables.history import current_since, last_run, versions_of
from transforms.backbones.export import model_id_of
from transforms.errors import Damaged, Refused
from transforms.parts.write import read_part, read_recipe
from transforms.recipe import Recipe
from transforms.storage import Storage, StoredObject, local_path, open_storage
from transforms.storage.local import unlisted
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
LEAST_AGE = timedelta(
    hours=1
    # Younger files may be a run's or a compaction's at work, or a reader's
)
# At once: in a bucket each takes some 20 ms
_DELETES = 16
_FRUITLESS = ("planned", "refused", "superseded")
# What makes a folder whole, and goes first: of a deletion that is broken off nothing is left that
# looks whole.
_MARKERS = ("/run.json", "/model.json")
# Files announced and deleted at once
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """What has to stay, whatever its age."""

    parts: frozenset[str]  # keys in the output
    runs: frozenset[str]
    models: frozenset[str]
    going_on: frozenset[
        str
        # The run that the next start may take up, and those that may be at work
    ]


def vacuum(
    output: str,
    older_than: timedelta,
    dry_run: bool = False,
    now: datetime | None = None,
    stores: Stores = (),
) -> Freed:
    """Delete what is older than ``older_than`` and not needed; with ``dry_run`` only find it.

    Needed are the parts of each version that readers saw within that time, and of the newest one;
    everything of a run that the next start may take up; the notes of the runs that wrote those
    versions, and of the last ones; and the networks of those versions' recipes. Files that are not
    ours are left alone.
    """
    storage = open_storage(output, stores)
    entries = [entry for folder in FOLDERS for entry in storage.list(folder)]
    hidden = [
        entry
        for entry in unlisted(output)
        if entry.key.startswith(tuple(f"{folder}/" for folder in FOLDERS))
    ]
    runs = load_runs(
        storage,
        most=1_000_000,
        # Before the tables: a run that publishes now is in one or the other
    )
    tables = Tables.published(storage)
    cutoff = (now or _now(storage, dry_run)) - older_than
    kept = _kept(tables, runs, storage, cutoff, _at_work(entries, cutoff))
    ours = [entry for entry in entries if is_ours(entry.key)]
    found = [
        *_parts(ours, kept, cutoff),
        *_folders(ours, kept, cutoff),
        *_temporary(hidden, cutoff),
    ]
    if not dry_run:
        noted = {entry.key.split("/")[1] for entry in entries if entry.key.endswith("/run.json")}
        _delete(storage, found, partial(_check_same, storage, tables, noted))
    others = [entry.key for entry in entries if not is_ours(entry.key)]
    others += [entry.key for entry in hidden if not _is_ours_unlisted(entry)]
    return Freed(tuple(found), tuple(sorted(others)), cutoff, dry_run)


def _now(storage: Storage, dry_run: bool) -> datetime:
    """The time by the storage's clock: by one of this machine that is ahead, all would look old.

    A dry run deletes nothing, so that its own clock will do: it writes nothing either.
    """
    here = datetime.now(UTC)
    there = None if dry_run else storage_time(storage)
    if there and abs(there - here) > LEAST_AGE:
        _LOG.warning(
            "this machine's clock says %s, and that of %s %s: the latter counts",
            here,
            storage.url,
            there,
        )
    return there or here


def _at_work(entries: Sequence[StoredObject], cutoff: datetime) -> set[str]:
    """The runs that have written something since: one may be at work though a later one has taken its place."""
    young = [entry.key.split("/") for entry in entries if not _is_old([entry], cutoff)]
    return {run_of_part(place) or place for folder, place, *_ in young if folder != "models"}


def _kept(
    tables: Tables, runs: Sequence[Run], storage: Storage, cutoff: datetime, at_work: set[str]
) -> Kept:
    parts: set[str] = set()
    run_ids: set[str] = set()
    parts_of_recipe: dict[
        str, list[str]
        # A recipe's id → parts that were made with it, newest version first
    ] = {}
    for table in tables:
        versions = versions_of(table.history())
        run_ids.add(last_run(versions) or "")  # verify compares its receipts
        for version in current_since(versions, cutoff):
            run_ids.add(version.run_id)
            for part in table.at(version.number).parts:
                key = table.key(part["path"])
                parts.add(key)
                if table.name == "features":
                    parts_of_recipe.setdefault(part["min.recipe"], []).append(key)
    recipes = [_recipe_of(storage, keys) for keys in parts_of_recipe.values()]
    unfinished = {run.run_id for run in runs[:1] if run.state == "planned"}
    going_on = at_work | unfinished
    recipes += [run.recipe for run in runs if run.run_id in going_on]
    newest_good = {run.state: run.run_id for run in reversed(runs) if run.state not in _FRUITLESS}
    return Kept(
        parts=frozenset(parts),
        runs=frozenset(run_ids | set(newest_good.values()) | going_on),
        models=frozenset(model_id_of(recipe) for recipe in recipes),
        going_on=frozenset(going_on),
    )


def _recipe_of(storage: Storage, keys: Sequence[str]) -> Recipe:
    """The recipe of parts that share one, from the first that is sound.

    Raises ``Damaged`` where none is.
    """
    for key in keys[:-1]:
        with suppress(Damaged):
            return read_recipe(read_part(storage, key))
    return read_recipe(read_part(storage, keys[-1]))


def _parts(ours: Sequence[StoredObject], kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Parts of versions that are over, and orphans: parts that no version ever had."""
    for entry in ours:
        run_id = run_of_part(entry.key.rpartition("/")[2])
        if (
            run_id
            and run_id not in kept.going_on
            and entry.key not in kept.parts
            and _is_old([entry], cutoff)
        ):
            yield Garbage("part", entry.key, entry.size, (entry.key,))


def _folders(ours: Sequence[StoredObject], kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Folders of runs and of networks."""
    for kind, folder, needed in (("run", "runs", kept.runs), ("model", "models", kept.models)):
        for name, entries in _by_place(ours, folder).items():
            if name not in needed and _is_old(entries, cutoff):
                files = tuple(entry.key for entry in entries)
                yield Garbage(kind, f"{folder}/{name}", sum(entry.size for entry in entries), files)


def _by_place(ours: Sequence[StoredObject], folder: str) -> Mapping[str, list[StoredObject]]:
    places: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for entry in ours:
        if entry.key.startswith(f"{folder}/"):
            places[entry.key.split("/")[1]].append(entry)
    return places


def _temporary(hidden: Sequence[StoredObject], cutoff: datetime) -> Iterator[Garbage]:
    """What processes were writing when they were killed."""
    for entry in hidden:
        if _is_ours_unlisted(entry) and _is_old([entry], cutoff):
            yield Garbage("temporary file", entry.key, entry.size, (entry.key,))


def _is_ours_unlisted(entry: StoredObject) -> bool:
    return is_temporary(entry.key.rpartition("/")[2])


def _is_old(entries: Sequence[StoredObject], cutoff: datetime) -> bool:
    return all(entry.modified is not None and entry.modified < cutoff for entry in entries)


def _delete(storage: Storage, found: Sequence[Garbage], check: Callable[[], None]) -> None:
    """Delete in batches, each announced and then checked.

    Raises ``Refused`` when somebody may need them by then.
    """
    files = sorted(
        (key for garbage in found for key in garbage.files),
        key=lambda key: not key.endswith(_MARKERS),
    )
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        with deleting(storage, batch) as until, ThreadPoolExecutor(_DELETES) as pool:
            check()
            list(pool.map(partial(_delete_file, storage, until), batch))
    for garbage in found:
        folder = local_path(f"{storage.url}/{garbage.key}")
        if folder is not None and garbage.kind in ("run", "model"):
            _remove_empty(folder)


def _delete_file(storage: Storage, until: float, key: str) -> None:
    if monotonic() > until:
        raise Refused(
            f"{storage.url} is too slow, or this process stood still; the rest stays. Run vacuum "
            "again."
        )
    storage.delete(key)


def _check_same(storage: Storage, tables: Tables, noted: set[str]) -> None:
    """Raise ``Refused`` when a run's plan, which names the network, or a commit has come since the look around."""
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
    for parent, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # it holds a file that is not ours
            Path(parent).rmdir()
