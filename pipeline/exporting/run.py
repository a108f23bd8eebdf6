"""``image-features export``: send the vectors elsewhere, and only what has changed since."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike, fspath

from pipeline.exporting.base import Follower, Job, Mirror
from pipeline.exporting.begin import fingerprint_at, start_of
from pipeline.exporting.differences import Counts
from pipeline.exporting.follow import WrongCount, follow
from pipeline.exporting.mirror import Folder, mirror
from pipeline.exporting.places import check_secrets
from pipeline.exporting.progress import RowProgress
from pipeline.exporting.shape import shape_of
from pipeline.exporting.state import State, read_state
from pipeline.exporting.targets import DEFAULT_COLUMNS, IdKind, Target, parse_target
from pipeline.tables import Tables
from pipeline.tables.table import Table
from transforms.errors import UserError
from transforms.storage import open_storage
from transforms.storage.settings import Stores
from transforms.storage.urls import local_path


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Where to export to, and what."""

    to: str  # a target, with options inside, as in "parquet,numbers=float16"
    dest: str
    stores: Stores = ()  # where buckets are
    table: str = ""  # name of the pair of tables; "" for the first one
    id: IdKind | None = None  # None for the target's default
    columns: tuple[str, ...] = DEFAULT_COLUMNS
    since: int | None = None  # the version that the destination holds, whatever it says
    replace: bool = False  # delete what is there, and send all rows


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was done."""

    dest: str
    table: str  # its address
    version: int  # of the table, which the destination now holds
    since: int | None  # the version that it held before; None for nothing
    rows: int  # that the destination now holds
    counts: Counts
    seconds: float
    hint: str

    def __str__(self) -> str:
        counts = self.counts
        before = "" if self.since is None else f"; before, version {self.since}"
        lines = [
            f"sent {counts.sent:,} rows to {self.dest} (added {counts.added:,}, changed "
            f"{counts.changed:,}), removed {counts.removed:,}; it holds version {self.version} of "
            f"{self.table}, {self.rows:,} rows{before}; {self.seconds:.1f} s"
        ]
        return "\n".join([*lines, self.hint] if self.hint else lines)


def export(output: str | PathLike[str], config: ExportConfig) -> ExportResult:
    """Bring a destination up to date with a features table.

    The destination notes which version it holds. So a call sends the rows that were added or
    changed since, and removes those that left the table. A call that is killed and repeated ends as
    one that was not killed.

    Args:
        output: Folder or URL of the tables.
        config: Where to, and what.

    Raises:
        UserError: A mistake in the configuration; or the destination holds another table, vectors
            of another recipe, or rows of another shape.
        Refused: Another export to the same destination took over.
        RunFailed: The destination fails, or ends with another number of rows than the table.
        Damaged: A part of the table cannot be read.
        StorageError: A storage does not answer.
    """
    started = time.monotonic()
    name, target, options = parse_target(config.to)
    if config.id not in (None, *target.ids):
        raise UserError(f"--id {config.id}: {name} takes {' or '.join(target.ids)}")
    storage = open_storage(fspath(output), config.stores)
    table = Tables.published(storage, config.table).features
    _check_dest(config.dest, target, storage.url)
    shape = shape_of(table, config.columns, config.id or target.ids[0], options)
    rows = sum(int(part["num_records"]) for part in table.parts)
    version = table.version or 0
    job = Job(config.dest.rstrip("/"), config.stores, table.name, shape, version, rows)
    wanted = State(name, table.name, table.table_id, table.recipe_id, shape.as_json())
    progress = RowProgress(rows)
    try:
        counts, since = _send(job, table, target, wanted, config, progress)
    finally:
        progress.end()
    seconds = time.monotonic() - started
    # Without a change there is no new batch to load.
    hint = "" if target.batches and counts == Counts() else target.hint(job)
    return ExportResult(job.dest, table.url, version, since, rows, counts, seconds, hint)


def _check_dest(dest: str, target: Target, output: str) -> None:
    if not dest:
        raise UserError("--dest: say where to export to")
    check_secrets(dest)
    place = _real(dest.partition("#")[0] if target.named else dest)
    if f"{place}/".startswith(f"{_real(output)}/"):
        raise UserError(
            f"--dest {dest} lies in {output}, the folder of the tables themselves; give a folder "
            "outside of it"
        )


def _real(url: str) -> str:
    """Return the folder that a path leads to, without links; an address as it is."""
    if "://" in url and not url.startswith("file:"):
        return url.rstrip("/")
    return os.path.realpath(local_path(url) or url)


def _send(
    job: Job, table: Table, target: Target, wanted: State, config: ExportConfig, on: RowProgress
) -> tuple[Counts, int | None]:
    """Do what the destination needs; return what was done, and the version that it held before."""
    opened = target.open(job)
    if isinstance(opened, Mirror):
        return _mirror(job, table, opened, wanted, config, on)
    with closing(opened):
        try:
            return _follow(job, table, opened, wanted, config, on)
        except WrongCount as error:
            before, done = error.since, error.counts
            if before is None:
                raise
    # Closed, an atomic destination has taken back what was done.
    again = target.open(job)
    assert not isinstance(again, Mirror)
    with closing(again):
        counts, _ = _follow(job, table, again, wanted, config, on, everything=True)
    if not again.atomic:
        counts.add(done)
    return counts, before


def _mirror(
    job: Job, table: Table, target: Mirror, wanted: State, config: ExportConfig, on: RowProgress
) -> tuple[Counts, int | None]:
    if config.since is not None:
        raise UserError("--since is for databases and batches; this target compares all files")
    folder = Folder(open_storage(job.dest, job.stores), target)
    found = None if config.replace else read_state(folder.storage)
    if found is None and not config.replace:
        folder.check_new()
    start = start_of(found, wanted, job, config.replace)
    return mirror(job, table, folder, start, on), start.version


def _follow(
    job: Job,
    table: Table,
    target: Follower,
    wanted: State,
    config: ExportConfig,
    on: RowProgress,
    everything: bool = False,
) -> tuple[Counts, int | None]:
    found = None if config.replace else target.read_state()
    if found is None and not config.replace and config.since is None and not target.is_empty():
        raise UserError(
            f"{job.dest} holds something that no export has noted. Give another --dest; or "
            "--since VERSION if it holds that version of the table; or --replace to delete it"
        )
    start = start_of(found, wanted, job, config.replace)
    if config.since is not None:
        if config.since > job.version:
            raise UserError(
                f"--since {config.since}: the newest version of the table is {job.version}"
            )
        mark = fingerprint_at(table, config.since)
        start = replace(start, version=config.since, stage="done", fingerprint=mark)
    elif found is None:
        start = replace(start, stage="clearing")
    since = start.version
    held = (start.version, start.stage, start.fingerprint)
    if config.since is None and held == (table.version, "done", table.fingerprint):
        if not target.adds or target.count() in (None, job.rows):
            return Counts(), since
        everything = True
    if not target.adds:
        start = replace(start, stage="clearing")
    return follow(job, table, target, start, on, everything), since
