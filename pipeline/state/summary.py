"""The reconciled summary of a run: every listed image is counted exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

# How far a run got. "planned", "submitted" and "extracted" go on with the next start.
State = Literal[
    "planned", "submitted", "extracted", "published", "unchanged", "dry_run", "refused", "superseded"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found, and what became of it; checked before anything is published.

    ``listed = new + changed + unchanged + retried + still_failed``, the five classes of the plan,
    and ``new + changed + retried = embedded + reused + failed``, the three ends that an image can
    come to.
    """

    run_id: str
    listed: int = 0  # distinct images of the inputs
    new: int = 0
    # Another etag or size than in the tables
    changed: int = 0
    unchanged: int = 0  # have a vector of this version
    # Failed in an earlier run and were tried again
    retried: int = 0
    still_failed: int = (
        # Failed in an earlier run and were not: the image has not changed, and is the reason
        0
    )
    # Images whose rows left the tables, for nothing lists them any more
    removed: int = 0
    # Images that nothing lists, and whose rows stay (--keep-removed)
    kept: int = 0
    embedded: int = 0  # vectors computed
    # Vectors taken from another image of the same bytes
    reused: int = 0
    # Of the images tried: no vector, a row in the errors table
    failed: int = 0
    # Files of a folder that are no images by their name; not listed
    ignored: int = 0
    # Before the work is done, or in a dry run: images to do
    todo: int = 0
    state: State = "planned"
    failures_by_kind: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0  # of images
    bytes_written: int = 0  # of parts
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the workers' time, by stage
    # Of the features table that readers see now
    version: int | None = None

    @property
    def published(self) -> bool:
        """Whether readers see what the run made."""
        return self.state == "published"

    @property
    def tried(self) -> int:
        """Images that the run had to do."""
        return self.new + self.changed + self.retried

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
        """What a note says. One that another version of the program wrote may say more."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def __str__(self) -> str:
        plus = [f"new {self.new:,}", f"changed {self.changed:,}", f"unchanged {self.unchanged:,}"]
        plus.append(f"retried {self.retried:,}")
        if self.still_failed:
            plus.append(f"still failed {self.still_failed:,}")
        gone = f"removed {self.removed:,}" + (f", kept {self.kept:,}" if self.kept else "")
        ends = f"embedded {self.embedded:,}, reused {self.reused:,}, failed {self.failed:,}"
        left = f", to do {self.todo:,}" if self.todo else ""
        return f"listed {self.listed:,} = {' + '.join(plus)}; {gone}; {ends}{left}"

    @property
    def verdict(self) -> str:
        """Where the workers' time went: ``decode 31 %, embed 62 %, …: model-bound``; empty without work."""
        total = sum(self.seconds.values())
        if not total:
            return ""
        ranked = sorted(self.seconds.items(), key=lambda item: -item[1])
        bound = "model" if ranked[0][0] == "embed" else ranked[0][0]
        return (
            ", ".join(f"{stage} {100 * s / total:.0f} %" for stage, s in ranked)
            + f": {bound}-bound"
        )
