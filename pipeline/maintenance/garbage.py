"""Find the garbage of an output, and describe it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.indexing.facts import is_index_file
from pipeline.maintenance.ours import is_temporary, run_of_part
from pipeline.reports.text import size_text
from transforms.storage import StoredObject

# How many foreign files a message names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """What must stay, whatever its age."""

    parts: frozenset[str]  # keys in the output
    runs: frozenset[str]
    models: frozenset[str]
    index_files: frozenset[str]  # keys in the output
    # The run that the next start may resume, and the runs that may be active.
    active: frozenset[str]


@dataclass(frozen=True, slots=True)
class Garbage:
    """One part, folder of a run or a model, or temporary file to delete."""

    kind: str  # part, run, model, index file, temporary file
    key: str  # of the file or folder, in the output
    size: int  # bytes
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Freed:
    """The garbage that vacuum deleted, or would delete."""

    garbage: tuple[Garbage, ...]
    # Keys of files that this program did not write, sorted.
    left_alone: tuple[str, ...]
    # UTC. Every version that readers saw since then stays.
    cutoff: datetime
    dry_run: bool  # nothing was deleted

    @property
    def size(self) -> int:
        """The size of all garbage in bytes."""
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
    """Return a line that names the first foreign files; none if there are no such files."""
    if not others:
        return []
    more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
    return [f"left alone, not written by this program: {', '.join(others[:_NAMED])}{more}"]


def find_garbage(
    ours: Sequence[StoredObject], hidden: Sequence[StoredObject], kept: Kept, cutoff: datetime
) -> list[Garbage]:
    """Find the files and folders to delete.

    Args:
        ours: Files that this program wrote.
        hidden: Files that a listing leaves out, also those of others.
        kept: What must stay.
        cutoff: Files that were modified since then stay.
    """
    return [
        *_parts(ours, kept, cutoff),
        *_folders(ours, kept, cutoff),
        *_index_files(ours, kept, cutoff),
        *_temporary(hidden, cutoff),
    ]


def is_old(entries: Sequence[StoredObject], cutoff: datetime) -> bool:
    """Tell whether all files were last modified before ``cutoff``; an unknown time is not old."""
    return all(entry.modified is not None and entry.modified < cutoff for entry in entries)


def is_leftover(hidden: StoredObject) -> bool:
    """Tell whether a file that a listing leaves out is a temporary file of this program."""
    return is_temporary(hidden.key.rpartition("/")[2])


def _parts(ours: Sequence[StoredObject], kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Yield parts of expired versions, and orphans: parts that no version ever had."""
    for entry in ours:
        run_id = run_of_part(entry.key.rpartition("/")[2])
        if (
            run_id
            and run_id not in kept.active
            and entry.key not in kept.parts
            and is_old([entry], cutoff)
        ):
            yield Garbage("part", entry.key, entry.size, (entry.key,))


def _folders(ours: Sequence[StoredObject], kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Yield folders of runs and of networks."""
    for kind, folder, needed in (("run", "runs", kept.runs), ("model", "models", kept.models)):
        for name, entries in _by_place(ours, folder).items():
            if name not in needed and is_old(entries, cutoff):
                files = tuple(entry.key for entry in entries)
                yield Garbage(kind, f"{folder}/{name}", sum(entry.size for entry in entries), files)


def _index_files(ours: Sequence[StoredObject], kept: Kept, cutoff: datetime) -> Iterator[Garbage]:
    """Yield files of indexes that a newer one replaced, and those that no index names."""
    for entry in ours:
        if (
            is_index_file(entry.key)
            and entry.key not in kept.index_files
            and is_old([entry], cutoff)
        ):
            yield Garbage("index file", entry.key, entry.size, (entry.key,))


def _by_place(ours: Sequence[StoredObject], folder: str) -> Mapping[str, list[StoredObject]]:
    """Group the files below ``folder`` by the name of their sub-folder."""
    places: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for entry in ours:
        if entry.key.startswith(f"{folder}/"):
            places[entry.key.split("/")[1]].append(entry)
    return places


def _temporary(hidden: Sequence[StoredObject], cutoff: datetime) -> Iterator[Garbage]:
    """Yield the files that processes were writing when they were killed."""
    for entry in hidden:
        if is_leftover(entry) and is_old([entry], cutoff):
            yield Garbage("temporary file", entry.key, entry.size, (entry.key,))
