"""What a call begins with: what the destination holds, when that is what is asked for."""

from __future__ import annotations

import uuid
from dataclasses import replace

from pipeline.exporting.base import Job
from pipeline.exporting.state import State
from pipeline.tables.table import Table
from transforms.errors import Damaged, UserError
from transforms.storage import StorageError


def fingerprint_at(table: Table, version: int) -> str:
    """Return the fingerprint of a version; "" for one that cannot be read any more."""
    try:
        return table.at(version).fingerprint
    except (Damaged, StorageError):
        return ""


def start_of(found: State | None, wanted: State, job: Job, anew: bool) -> State:
    """Return the state that a call begins with.

    Raises:
        UserError: The destination holds something else than what is asked for.
    """
    call = uuid.uuid4().hex
    if found is None and not job.rows:
        raise UserError(f"{job.name} has no rows to export")
    if anew or found is None:
        return replace(wanted, call=call, stage="clearing" if anew else "done")
    asked: dict[str, tuple[object, object]] = {
        "target": (found.target, wanted.target),
        "table": (found.table, wanted.table),
        "table's id": (found.table_id, wanted.table_id),
        "recipe": (found.recipe, wanted.recipe if job.rows else found.recipe),
    }
    if found.version is None and found.shape != wanted.shape:
        # No call has ended there, so there is nothing of that shape to keep.
        found = replace(found, shape=wanted.shape, stage="clearing", files={})
    for name, pair in _pairs(found.shape, wanted.shape).items():
        asked[{"id": "kind of ids"}.get(name, name)] = pair
    for what, (old, new) in asked.items():
        if old != new:
            raise UserError(
                f"{job.dest} holds another {what}: {_text(old)}; this is {_text(new)}. Give "
                "another --dest, or --replace to send all rows anew"
            )
    return replace(found, call=call)


def _pairs(old: object, new: object) -> dict[str, tuple[object, object]]:
    before, now = (dict(side) if isinstance(side, dict) else {} for side in (old, new))
    return {name: (before.get(name), now.get(name)) for name in sorted(before | now)}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return str(value)[:300]
