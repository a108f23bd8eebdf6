"""List the versions of a table and what each commit did, from the metadata in Delta's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Operation = Literal[
    "extract",
    "rebuild",
    "compact",
    "relabel",
    "rollback",
    "repair",
    "add_columns",
    "duplicates",
]
# After these the rows are still those of an earlier version.
_SAME_RUN = ("compact", "relabel", "rollback", "add_columns")


@dataclass(frozen=True, slots=True)
class Change:
    """The row counts of a commit.

    A row that moves to another part is neither added nor removed.
    """

    operation: Operation
    rows: int  # of the table afterwards
    added: int
    removed: int
    restored: int | None = None  # the earlier version, after a rollback


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a table."""

    number: int
    time: datetime  # UTC, of its commit
    # The id of the run, compaction, repair or rollback; "" if another program wrote this version.
    run_id: str
    delta_operation: str  # in Delta's own words
    change: Change | None  # None if another program wrote this version


def versions_of(history: Sequence[Mapping[str, Any]]) -> list[Version]:
    """Convert Delta's history to versions, in the given order: newest first."""
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
    """Select the versions that readers saw at some time after ``moment``.

    Args:
        versions: Newest first.
        moment: UTC.

    Returns:
        Newest first. The newest version is always among them.
    """
    replaced = [None, *(version.time for version in versions)]
    return [
        version
        for version, gone in zip(versions, replaced, strict=False)
        if gone is None or gone > moment
    ]


def last_run(versions: Sequence[Version]) -> str | None:
    """Return the run that the newest version holds the rows of.

    Compactions, rollbacks and added columns do not change that.

    Args:
        versions: Newest first.

    Returns:
        The run's id. None if it is unknown, and after a repair, which removed some of the run's
        rows.
    """
    by_number = {version.number: version for version in versions}
    version = versions[0] if versions else None
    while version and version.change and version.change.operation in _SAME_RUN:
        restored = version.change.restored
        version = by_number.get(version.number - 1 if restored is None else restored)
    known = version and version.change and version.change.operation != "repair"
    return version.run_id if version and known else None
