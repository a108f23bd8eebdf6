"""Vacuum: delete what no version of the tables, and no run that can go on, needs any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.maintenance import open_tables
from pipeline.runs import Run, load_runs
from pipeline.show import size_text
from pipeline.tables import Table
from pipeline.versions import current_since, last_run, versions_of
from transforms.backbones.export import model_id_of
from transforms.errors import Damaged
from transforms.recipe import Recipe
from transforms.storage import Storage, StoredObject, left_by_killed, local_path, open_storage
from transforms.write import read_part, read_recipe

LEAST_AGE = timedelta(hours=1)  # younger files may be a run's or a compaction's at work, or a reader's
_DELETES = 16  # at once: in a bucket each takes some 20 ms
_FRUITLESS = ("planned", "refused", "superseded")
# What makes a folder whole, and goes first: of a deletion that is broken off nothing is left that looks whole.
_MARKERS = {"run": "run.json", "model": "model.json"}


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing to delete: a part, a run's or a model's folder, or what a killed process was writing."""

    kind: str  # part, run, model, temporary file
    key: str  # of the file or folder, in the output
    size: int  # bytes
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What has to stay, whatever its age."""

    parts: frozenset[str]  # keys in the output
    runs: frozenset[str]
    models: frozenset[str]
    unfinished: str | None  # the run that the next start may take up


def vacuum(output: str, older_than: timedelta, dry_run: bool = False, now: datetime | None = None) -> str:
    """Delete what is older than ``older_than`` and not needed; returns what was freed, as text.

    Needed are the parts of each version that readers saw within that time, and of the newest one; everything of a
    run that the next start may take up; the notes of the runs that wrote those versions, and of the last ones; and
    the networks of those versions' recipes. Files that are not ours are left alone.
    """
    storage = open_storage(output)
    cutoff = (now or datetime.now(UTC)) - older_than
    runs = load_runs(storage, most=1_000_000)  # before the tables: a run that publishes now is in one or the other
    kept = _kept(open_tables(output), runs, storage, cutoff)
    found = [*_parts(storage, kept, cutoff), *_folders(storage, kept, cutoff), *_temporary(storage, cutoff)]
    if not dry_run:
        for garbage in found:
            _delete(storage, garbage)
    return _report(found, dry_run, cutoff)


def _kept(tables: Sequence[Table], runs: Sequence[Run], storage: Storage, cutoff: datetime) -> Kept:
    parts: set[str] = set()
    run_ids: set[str] = set()
    parts_of_recipe: dict[str, list[str]] = {}  # a recipe's id → parts that were made with it, newest version first
    for table in tables:
        versions = versions_of(table.history())
        run_ids.add(last_run(versions) or "")  # verify compares its receipts
        for version in current_since(versions, cutoff):
            run_ids.add(version.run_id)
            for part in table.at(version.number).parts:
                key = f"{table.name}/{part['path']}"
                parts.add(key)
                if table.name == "features":
                    parts_of_recipe.setdefault(part["min.recipe"], []).append(key)
    recipes = [_recipe_of(storage, keys) for keys in parts_of_recipe.values()]
    unfinished = runs[0] if runs and runs[0].state == "planned" else None
    if unfinished:
        recipes.append(unfinished.recipe)
        run_ids.add(unfinished.run_id)
    newest_good = {run.state: run.run_id for run in reversed(runs) if run.state not in _FRUITLESS}
    return Kept(
        parts=frozenset(parts),
        runs=frozenset(run_ids | set(newest_good.values())),
        models=frozenset(model_id_of(recipe) for recipe in recipes),
        unfinished=unfinished.run_id if unfinished else None,
    )


def _recipe_of(storage: Storage, keys: Sequence[str]) -> Recipe:
    """The recipe of parts that share one, from the first that is sound. Raises ``Damaged`` where none is."""
    for key in keys[:-1]:
        with suppress(Damaged):
            return read_recipe(read_part(storage, key))
    return read_recipe(read_part(storage, keys[-1]))


def _parts(storage: Storage, kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Parts of versions that are over, and orphans: parts that no version ever had."""
    for table in ("features", "errors"):
        for entry in storage.list(table):
            name = entry.key.removeprefix(f"{table}/")
            ours = name.startswith("part-") and name.endswith(".parquet")
            going_on = kept.unfinished and name.startswith(f"part-{kept.unfinished}-")
            if ours and not going_on and entry.key not in kept.parts and _is_old([entry], cutoff):
                yield Garbage("part", entry.key, entry.size, (entry.key,))


def _folders(storage: Storage, kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Folders of runs and of networks."""
    for kind, folder, needed in (("run", "runs", kept.runs), ("model", "models", kept.models)):
        for name in storage.folders(f"{folder}/"):
            entries = list(storage.list(f"{folder}/{name}")) if name not in needed else []
            if entries and _is_old(entries, cutoff):
                files = tuple(entry.key for entry in entries)
                yield Garbage(kind, f"{folder}/{name}", sum(entry.size for entry in entries), files)


def _temporary(storage: Storage, cutoff: datetime) -> Iterator[Garbage]:
    """What processes were writing when they were killed; in a run's old folder they go with it."""
    for path in left_by_killed(storage.url):
        status = path.stat()
        if datetime.fromtimestamp(status.st_mtime, UTC) < cutoff:
            key = path.relative_to(storage.url).as_posix()
            yield Garbage("temporary file", key, status.st_size, (key,))


def _is_old(entries: Sequence[StoredObject], cutoff: datetime) -> bool:
    return all(entry.modified is not None and entry.modified < cutoff for entry in entries)


def _delete(storage: Storage, garbage: Garbage) -> None:
    if marker := _MARKERS.get(garbage.kind):
        storage.delete(f"{garbage.key}/{marker}")
    with ThreadPoolExecutor(_DELETES) as pool:
        list(pool.map(storage.delete, garbage.files))
    folder = local_path(storage.url)
    if marker and folder is not None:
        shutil.rmtree(Path(folder, garbage.key), ignore_errors=True)  # its empty folders


def _report(found: Sequence[Garbage], dry_run: bool, cutoff: datetime) -> str:
    lines = [f"{garbage.key}  {size_text(garbage.size)}" for garbage in found] if dry_run else []
    counts = []
    for kind in dict.fromkeys(garbage.kind for garbage in found):
        number = sum(garbage.kind == kind for garbage in found)
        counts.append(f"{number:,} {kind}{'s' if number != 1 else ''}")
    freed = f"{size_text(sum(garbage.size for garbage in found))} in {', '.join(counts)}" if found else "nothing"
    verb = "would free" if dry_run else "freed"
    since = f"{cutoff:%Y-%m-%d %H:%M:%S} UTC"
    return "\n".join([*lines, f"{verb} {freed}; every version that readers saw since {since} stays"])
