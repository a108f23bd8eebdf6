"""Bring a destination that takes and forgets rows up to date with the table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from pipeline.exporting.base import Batch, Follower, Job
from pipeline.exporting.differences import Counts, Difference, Sides
from pipeline.exporting.ids import ids_of
from pipeline.exporting.rows import read_batches
from pipeline.exporting.state import State, taken_over
from pipeline.tables.snapshot import Snapshot
from transforms.errors import Damaged, RunFailed
from transforms.storage import StorageError

_LOG = logging.getLogger(__name__)
# Ids that are removed with one request.
_KEYS = 1000


class WrongCount(RunFailed):
    """In the end the destination has another number of rows than the table.

    Args:
        message: What the user is told.
        counts: What was done, unless the destination takes it back.
        since: The version that it was compared with; None when its rows were, or it had none.
    """

    def __init__(self, message: str, counts: Counts, since: int | None) -> None:
        super().__init__(message)
        self.counts = counts
        self.since = since


def follow(
    job: Job,
    table: Snapshot,
    target: Follower,
    start: State,
    on_rows: Callable[[int], None],
    everything: bool = False,
) -> Counts:
    """Send the rows that a destination lacks, and remove those that the table lacks.

    Args:
        job: What to export.
        table: The features table.
        target: The destination.
        start: What it holds, and in which stage it is, with the id of this call.
        on_rows: Is told each number of rows that were sent.
        everything: Compare with all rows that are there, whatever the destination says.

    Raises:
        Refused: Another call took over.
        WrongCount: In the end the destination has another number of rows than the table.
        Damaged: A part of the table cannot be read.
        StorageError: The storage does not answer.
    """
    was = start.stage
    if was == "clearing":
        target.write_state(start)
        target.clear()
        start = replace(start, version=None)
    sides = _sides(table, target, start, was, everything)
    start = replace(start, stage="sending")
    target.write_state(start)
    counts = Counts()
    for difference in sides.differences():
        target.send(_batches(job, table, target, start, difference, on_rows))
        target.remove(_keys(job, target, start, difference))
        counts.add(difference.counts)
    _check_count(job, target, counts, None if everything else start.version)
    check_call(target.read_state(), start, job.dest)
    target.finish(replace(start, stage="done", version=table.version, rows=job.rows,
                          fingerprint=table.fingerprint))  # fmt: skip
    return counts


def check_call(state: State | None, own: State, dest: str) -> None:
    """Check that no other call has taken over.

    Raises:
        Refused: Another one has.
    """
    if state is None or state.call != own.call:
        raise taken_over(dest)


def _sides(table: Snapshot, target: Follower, state: State, was: str, everything: bool) -> Sides:
    """Choose what to compare the table with: an earlier version, or all rows that are there."""
    stopped = was == "sending" and not target.atomic
    if was == "clearing" or (state.version is None and not stopped):
        return Sides.first(table)
    version = state.version or 0
    if stopped:
        doubt = "the last export was stopped"
    elif everything:
        doubt = "the number of rows is wrong"
    elif version > (table.version or 0):
        doubt = f"version {version} is later than the newest one of the table"
    else:
        try:
            old = table.at(version)
            if old.fingerprint == state.fingerprint:
                sides = Sides.of_versions(table, old)
                # A version whose parts were vacuumed is found out here, and not in the middle.
                for _ in sides.there():
                    pass
                return sides
            doubt = (
                f"version {version} of the table may have been another one when it was exported, "
                "as in a copy of the table"
            )
        except (Damaged, StorageError) as error:
            doubt = f"version {version} of the table cannot be read any more ({error})"
    _LOG.info("%s: comparing with all rows that are there", doubt)
    return Sides.of_rows(table, target.stored, target.count())


def _batches(
    job: Job,
    table: Snapshot,
    target: Follower,
    own: State,
    difference: Difference,
    on_rows: Callable[[int], None],
) -> Iterator[Batch]:
    """Yield the rows to send, as long as no other call takes over."""
    for batch in read_batches(table.storage, difference.parts, job.shape, difference.fresh):
        check_call(target.read_state(), own, job.dest)
        yield batch
        on_rows(batch.rows.num_rows)


def _keys(job: Job, target: Follower, own: State, difference: Difference) -> Iterator[pa.Array]:
    """Yield the ids of the rows to remove, as long as no other call takes over."""
    for uris in difference.removed():
        check_call(target.read_state(), own, job.dest)
        for start in range(0, len(uris), _KEYS):
            yield ids_of(uris[start : start + _KEYS].to_pylist(), job.shape.id)


def _check_count(job: Job, target: Follower, counts: Counts, since: int | None) -> None:
    rows = target.count()
    if rows is None or rows == job.rows:
        return
    raise WrongCount(
        f"{job.dest} has {rows:,} rows, and the table has {job.rows:,}. Something else writes "
        "there, or two images have one id. Give --replace to send all rows anew; if the numbers "
        "still differ, give another --id",
        counts,
        since,
    )
