"""Keep vacuum and commits apart: each writes a note to the output, then looks for the other's.

A commit notes the parts that it adds and looks for deletions. A deletion notes its files and looks
for commits. So in either order at least one of the two sees the other and stops. A note exists for
seconds. The note of a killed process stops counting after ``ABANDONED``, by the storage's own
clock.

The note of a deletion is empty where a full disk has no room for its text. It stands for all files:
vacuum is what makes room.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal

from transforms.errors import Refused, RunFailed
from transforms.storage import NoRoom, NotFound, Storage

FOLDER = "announced"
ABANDONED = timedelta(hours=1)
# Seconds that one deletion may take: far less than ABANDONED.
_PATIENCE = 900
Kind = Literal["commit", "vacuum"]


@contextmanager
def announce_commit(output: Storage, keys: Collection[str]) -> Iterator[None]:
    """Protect files from vacuum while the body commits them.

    A run also protects the network that its workers will load. By then its own ``run.json`` is
    written, so that vacuum sees it.

    Args:
        output: Folder of the tables.
        keys: Files that the body needs, as keys of the output.

    Yields:
        Nothing. The files exist when the body starts.

    Raises:
        Refused: Vacuum is deleting one of the files, or has deleted it.
        RunFailed: The body took longer than ``ABANDONED``, and vacuum removed the note.
    """
    note = _write(output, "commit", keys)
    try:
        for other in _others(output, note, "vacuum"):
            deleted = _read(output, other)
            if found := sorted(set(keys) & (set(keys) if deleted is None else deleted)):
                raise Refused(
                    f"vacuum is deleting {found[0]}, which is needed here; nothing was done. Run "
                    "the same command again when vacuum has ended; one that was killed holds it "
                    f"up for {_hours()} at most."
                )
        _check_there(output, keys)
        yield
        if not output.exists(note):
            raise RunFailed(
                f"the commit to {output.url} took more than {_hours()}, and vacuum may have "
                "deleted parts of it. Run 'image-features verify' to check."
            )
    finally:
        output.delete(note)


def storage_time(output: Storage) -> datetime | None:
    """Return the time of the storage's own clock, which also sets the times of files.

    Args:
        output: Folder of the tables. A note is written there and deleted again.

    Returns:
        The time, or None where the storage gives files no times.
    """
    note = _write(output, "vacuum", ())
    try:
        return next((entry.modified for entry in output.list(FOLDER) if entry.key == note), None)
    finally:
        output.delete(note)


@contextmanager
def announce_deletion(output: Storage, keys: Collection[str]) -> Iterator[float]:
    """Announce a deletion; the body does it.

    The body must first look at the tables' versions and at the notes of the runs (``run.json``).
    They show a commit that has ended by then, and a run that has found its network.

    Args:
        output: Folder of the tables.
        keys: Files that the body deletes, as keys of the output.

    Yields:
        The moment, in seconds of ``time.monotonic``, after which the body may delete no more.

    Raises:
        Refused: A commit is under way.
    """
    until = time.monotonic() + _PATIENCE
    note = _write(output, "vacuum", keys)
    try:
        if others := _others(output, note, "commit"):
            raise Refused(
                f"a commit to {output.url} is under way ({others[0]}); nothing more was deleted. "
                "Run vacuum again when it has ended; one that was killed holds it up for "
                f"{_hours()} at most."
            )
        yield until
    finally:
        output.delete(note)


def _write(output: Storage, kind: Kind, keys: Collection[str]) -> str:
    """Write a note of this process alone; a second process on the same run writes another."""
    note = f"{FOLDER}/{kind}-{secrets.token_hex(8)}.json"
    try:
        output.write_if_absent(note, json.dumps(sorted(keys)).encode())
    except NoRoom:
        if kind != "vacuum":
            raise
        output.write_if_absent(note, b"")
    return note


def _others(output: Storage, mine: str, kind: Kind) -> list[str]:
    """Return the notes of other active processes; a deletion removes abandoned notes."""
    notes = {entry.key: entry.modified for entry in output.list(FOLDER)}
    now = notes.get(mine)
    found = []
    for key, modified in notes.items():
        if key == mine:
            continue
        if now and modified and abs(now - modified) > ABANDONED:
            if kind == "commit":
                output.delete(key)
        elif key.startswith(f"{FOLDER}/{kind}-"):
            found.append(key)
    return found


def _read(output: Storage, note: str) -> set[str] | None:
    """Return the keys in a note: None if it stands for all, none when it has been deleted."""
    try:
        text = output.read(note)
    except NotFound:
        # The other process has ended since.
        return set()
    return set(json.loads(text)) if text else None


def _check_there(output: Storage, keys: Collection[str]) -> None:
    """Raise ``Refused`` when a file is missing."""
    folders = {key.partition("/")[0] for key in keys}
    there = {entry.key for folder in folders for entry in output.list(folder)}
    if gone := sorted(set(keys) - there):
        raise Refused(
            f"{len(gone)} files that are needed here are not there any more ({gone[0]} is the "
            "first); vacuum may have deleted them. Nothing was done. Run the same command again."
        )


def _hours() -> str:
    """Format ``ABANDONED`` for a message, for example "1 h"."""
    return f"{ABANDONED.total_seconds() / 3600:g} h"
