"""The reconciled summary of a run: every listed image is counted exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Summary:
    """``listed = embedded + unchanged + failed``, checked before anything is published."""

    run_id: str
    listed: int = 0
    embedded: int = 0
    unchanged: int = 0
    failed: int = 0  # images without a vector, those that failed in an earlier run and were not tried again included
    still_failed: int = 0  # of the failed: not tried again, for neither the image nor the reason can have changed
    ignored: int = 0  # files of a folder that are no images by their name; not listed
    todo: int = 0  # of a dry run: images that a run would do
    published: bool = False
    failures_by_kind: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the workers' time, by stage
    version: int | None = None  # of the features table that readers see now

    @property
    def balanced(self) -> bool:
        """Whether no image was lost and none counted twice."""
        return self.listed == self.embedded + self.unchanged + self.failed + self.todo

    def __str__(self) -> str:
        counts = f"embedded {self.embedded:,} + unchanged {self.unchanged:,} + failed {self.failed:,}"
        return f"listed {self.listed:,} = {counts}" + (f" + to do {self.todo:,}" if self.todo else "")

    @property
    def verdict(self) -> str:
        """Where the workers' time went: ``decode 31 %, embed 62 %, …: model-bound``; empty without work."""
        total = sum(self.seconds.values())
        if not total:
            return ""
        ranked = sorted(self.seconds.items(), key=lambda item: -item[1])
        bound = {"embed": "model", "read": "read", "decode": "decode", "write": "write"}[ranked[0][0]]
        return ", ".join(f"{stage} {100 * s / total:.0f} %" for stage, s in ranked) + f": {bound}-bound"
