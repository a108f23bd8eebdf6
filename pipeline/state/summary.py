"""Summarise a run: each listed image is counted exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

# How far a run got. The next start resumes a "planned", "submitted" or "extracted" one.
State = Literal[
    "planned",
    "submitted",
    "extracted",
    "published",
    "unchanged",
    "dry_run",
    "refused",
    "superseded",
]


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a run, which are checked before anything is published.

    The plan sorts the listed images into five classes:
    ``listed = new + changed + unchanged + retried + still_failed``.
    An image that is tried has one of three outcomes:
    ``new + changed + retried = embedded + reused + failed``.
    """

    run_id: str
    listed: int = 0  # distinct images of the inputs
    new: int = 0
    changed: int = 0  # etag or size differs from the tables
    updated: int = 0  # unchanged, but with other carried values; the vector is kept
    unchanged: int = 0  # the tables have a vector of this etag and size
    retried: int = 0  # failed in an earlier run and are tried again
    # Failed in an earlier run and are not tried again: the unchanged image is the cause.
    still_failed: int = 0
    # Images that nothing lists any more, and whose rows are deleted.
    removed: int = 0
    # Images that nothing lists any more, and whose rows are kept (--keep-removed).
    kept: int = 0
    embedded: int = 0  # vectors computed
    reused: int = 0  # vectors taken from another image with the same bytes
    # Rows whose labels were computed anew from their stored vectors, before the plan.
    relabelled: int = 0
    # Images that were tried and have no vector, but a row in the errors table.
    failed: int = 0
    # Files in folders whose names are not those of images; not listed.
    ignored: int = 0
    # Images to do, before the work is done or in a dry run.
    todo: int = 0
    state: State = "planned"
    failures_by_kind: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0  # of images
    bytes_written: int = 0  # of parts
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the workers' time, by stage
    # The version of the features table that readers see now.
    version: int | None = None
    # Name of the backbone's pair of tables; "" for the first.
    table: str = ""

    @property
    def published(self) -> bool:
        """Whether readers see the run's result."""
        return self.state == "published"

    @property
    def tried(self) -> int:
        """The number of images that the run had to do."""
        return self.new + self.changed + self.updated + self.retried

    @property
    def balanced(self) -> bool:
        """Whether no image was lost and none counted twice."""
        classes = self.tried + self.unchanged + self.still_failed
        return (
            self.listed == classes
            and self.tried == self.embedded + self.reused + self.failed + self.todo
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Summary:
        """Make a summary from a note; ignore the fields that only another version knows."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def __str__(self) -> str:
        plus = [f"new {self.new:,}", f"changed {self.changed:,}", f"unchanged {self.unchanged:,}"]
        plus.append(f"retried {self.retried:,}")
        if self.updated:
            plus.append(f"updated {self.updated:,}")
        if self.still_failed:
            plus.append(f"still failed {self.still_failed:,}")
        gone = f"removed {self.removed:,}" + (f", kept {self.kept:,}" if self.kept else "")
        ends = f"embedded {self.embedded:,}, reused {self.reused:,}, failed {self.failed:,}"
        left = f", to do {self.todo:,}" if self.todo else ""
        labels = f"; relabelled {self.relabelled:,}" if self.relabelled else ""
        return f"listed {self.listed:,} = {' + '.join(plus)}; {gone}; {ends}{left}{labels}"

    @property
    def verdict(self) -> str:
        """The workers' time by stage, ``decode 31 %, embed 62 %, …: model-bound``, or nothing."""
        total = sum(self.seconds.values())
        if not total:
            return ""
        ranked = sorted(self.seconds.items(), key=lambda item: -item[1])
        bound = "model" if ranked[0][0] == "embed" else ranked[0][0]
        return (
            ", ".join(f"{stage} {100 * s / total:.0f} %" for stage, s in ranked)
            + f": {bound}-bound"
        )
