"""The versions of a table: what each commit did, as its own metadata in Delta's log says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Operation = Literal["extract", "rebuild", "compact", "rollback", "repair"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to the rows of a table.

    A row that moves to another part is neither added nor removed.
    """

    operation: Operation
    rows: int  # of the table afterwards
    added: int
    removed: int
    # Of a rollback: the version that it went back to
    restored: int | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a table."""

    number: int
    time: datetime  # UTC, of its commit
    # Of the run, compaction or rollback; "" for another writer's
    run_id: str
    delta_operation: str  # in Delta's own words
    change: Change | None  # None for another writer's


def versions_of(history: Sequence[Mapping[str, Any]]) -> list[Version]:
    """Delta's history, newest first as it is, in our words."""
    return [
        Version(
            number=entry["version"],
            time=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
            run_id=entry.get("run_id", ""),
            delta_operation=entry.get("operation", ""),
            change=Change(**entry["change"]) if "change" in entry else None,
        )
        for entry in history
    ]


def current_since(versions: Sequence[Version], moment: datetime) -> list[Version]:
    """Those that readers saw at ``moment`` or later, newest first as given: the newest one always is."""
    replaced = [None, *(version.time for version in versions)]
    return [
        version
        for version, gone in zip(versions, replaced, strict=False)
        if gone is None or gone > moment
    ]


def last_run(versions: Sequence[Version]) -> str | None:
    """The run whose rows the newest version stands for, through compactions and rollbacks; None if not told.

    It is not told after a repair: that took some of the run's rows away.
    """
    by_number = {version.number: version for version in versions}
    version = versions[0] if versions else None
    while version and version.change and version.change.operation in ("compact", "rollback"):
        restored = version.change.restored
        version = by_number.get(version.number - 1 if restored is None else restored)
    known = version and version.change and version.change.operation != "repair"
    return version.run_id if version and known else None
