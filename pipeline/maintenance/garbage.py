"""What vacuum deletes, and what it returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from pipeline.reports.text import size_text

# Of the files that are not ours, as many are named.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing to delete: a part, a run's or a model's folder, or what a killed process was writing."""

    kind: str  # part, run, model, temporary file
    # Of the file or folder, in the output
    key: str
    size: int  # bytes
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Freed:
    """What vacuum deleted, or would delete."""

    garbage: tuple[Garbage, ...]
    # Keys of files that this program did not write, sorted
    left_alone: tuple[str, ...]
    # UTC; every version that readers saw since then stays
    cutoff: datetime
    dry_run: bool  # nothing was deleted

    @property
    def size(self) -> int:
        """Bytes of all garbage."""
        return sum(garbage.size for garbage in self.garbage)

    def __str__(self) -> str:
        lines = _left_alone_lines(self.left_alone)
        if self.dry_run:
            lines += [f"{garbage.key}  {size_text(garbage.size)}" for garbage in self.garbage]
        kinds = Counter(garbage.kind for garbage in self.garbage)
        counts = [
            f"{number:,} {kind}{'s' if number != 1 else ''}" for kind, number in kinds.items()
        ]
        freed = f"{size_text(self.size)} in {', '.join(counts)}" if counts else "nothing"
        verb = "would free" if self.dry_run else "freed"
        since = f"{self.cutoff:%Y-%m-%d %H:%M:%S} UTC"
        lines.append(f"{verb} {freed}; every version that readers saw since {since} stays")
        return "\n".join(lines)


def _left_alone_lines(others: tuple[str, ...]) -> list[str]:
    """A line that names files that are not ours; none if there is no such file."""
    if not others:
        return []
    more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
    return [f"left alone, not written by this program: {', '.join(others[:_NAMED])}{more}"]
