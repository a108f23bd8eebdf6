"""Vacuum and commits at once: each says in the output what it is about to do, and then looks for the other.

A commit notes the parts that it brings and looks for deletions; a deletion notes its files and
looks for commits. So whatever the order, at least one of the two sees the other and stops. A note
lasts for seconds, and one that a killed process left counts no more after ``ABANDONED``, by the
storage's own clock.
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
from transforms.storage import NotFound, Storage

FOLDER = "announced"
ABANDONED = timedelta(hours=1)
# Seconds for one deletion: far less than ABANDONED
_PATIENCE = 900
Kind = Literal["commit", "vacuum"]


@contextmanager
def bringing(output: Storage, keys: Collection[str]) -> Iterator[None]:
    """Commit parts within it: vacuum leaves them alone. ``keys`` are of the output.

    A run does the same with the network that its workers will load, once its own note is there for
    vacuum to see. Raises ``Refused`` when vacuum is deleting one of them, or has deleted it.
    """
    note = _write(output, "commit", keys)
    try:
        for other in _others(output, note, "vacuum"):
            if found := sorted(set(keys) & set(_read(output, other))):
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
                "deleted parts of it: 'image-features verify' tells."
            )
    finally:
        output.delete(note)


def storage_time(output: Storage) -> datetime | None:
    """The time by the storage's own clock, which files' ages are told by; None where it gives files no times."""
    note = _write(output, "vacuum", ())
    try:
        return next((entry.modified for entry in output.list(FOLDER) if entry.key == note), None)
    finally:
        output.delete(note)


@contextmanager
def deleting(output: Storage, keys: Collection[str]) -> Iterator[float]:
    """Delete files within it, no later than the moment (of ``time.monotonic``) that it gives.

    Raises ``Refused`` when a commit is under way. Look at the tables' versions and at the runs'
    notes within it: a commit that has ended by then, and a run that has found its network, are in
    them.
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
    """Make the note that this process has; a second process on the same run has another."""
    note = f"{FOLDER}/{kind}-{secrets.token_hex(8)}.json"
    output.write_if_absent(note, json.dumps(sorted(keys)).encode())
    return note


def _others(output: Storage, mine: str, kind: Kind) -> list[str]:
    """The notes of others at work. A deletion removes those that killed processes left."""
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


def _read(output: Storage, note: str) -> list[str]:
    try:
        keys: list[str] = json.loads(output.read(note))
    except NotFound:  # it has ended since
        return []
    return keys


def _check_there(output: Storage, keys: Collection[str]) -> None:
    folders = {key.partition("/")[0] for key in keys}
    there = {entry.key for folder in folders for entry in output.list(folder)}
    if gone := sorted(set(keys) - there):
        raise Refused(
            f"{len(gone)} files that are needed here are not there any more ({gone[0]} is the "
            "first), as after vacuum; nothing was done. Run the same command again."
        )


def _hours() -> str:
    return f"{ABANDONED.total_seconds() / 3600:g} h"
