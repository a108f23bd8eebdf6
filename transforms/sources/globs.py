"""Match names with globs, one folder at a time, in time linear in the name's length.

``*`` stands for any characters of one name, ``**`` for any characters across folders, ``?`` for one
character, ``[a-c]`` and ``[!a-c]`` for one of a set; ``[*]`` is a literal star. There are no braces
and no escapes. A name that starts with a dot only matches a pattern that writes that dot. Unlike
``glob`` and ``fnmatch`` of the standard library, this also works on the keys of a bucket, lets a
walk skip folders that cannot match, and never backtracks across a ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from transforms.errors import UserError

# Positions in a pattern that a folder's path reaches; empty if nothing below the folder matches.
States = frozenset[int]
START: States = frozenset({0})


@dataclass(frozen=True)
class Pattern:
    """A small automaton whose steps match whole names."""

    # State before, expression that the name has to match, state after.
    steps: tuple[tuple[int, re.Pattern[str], int], ...]
    last: int

    def enter(self, states: States, name: str) -> States:
        """Return the states in the sub-folder ``name`` of a folder at ``states``."""
        return frozenset(
            to for start, wanted, to in self.steps if start in states and wanted.fullmatch(name)
        )

    def takes(self, states: States, name: str) -> bool:
        """Tell whether the file ``name`` in a folder at ``states`` matches."""
        return any(
            to == self.last and start in states and wanted.fullmatch(name) is not None
            for start, wanted, to in self.steps
        )


def has_wildcards(text: str) -> bool:
    """Tell whether ``text`` contains a wildcard."""
    return any(character in text for character in "*?[")


def split_pattern(text: str, is_folder: Callable[[str], bool] = lambda _: False) -> tuple[str, str]:
    """Cut a path or URL before its first part with a wildcard.

    Args:
        text: Path or URL.
        is_folder: Tells whether a folder of just this name exists; such a part is no wildcard.

    Returns:
        The folder to list, and the pattern relative to it.

    Raises:
        UserError: For a pattern with ``..``, or one that matches folders only.
    """
    parts = text.split("/")
    places = ("/".join(parts[: number + 1]) for number in range(len(parts)))
    wild = (
        has_wildcards(part) and not is_folder(place)
        for part, place in zip(parts, places, strict=True)
    )
    first = next((number for number, is_wild in enumerate(wild) if is_wild), len(parts) - 1)
    pattern = [part for part in parts[first:] if part not in ("", ".")]
    if ".." in pattern:
        raise UserError(f"{text!r}: '..' cannot come after a wildcard")
    if not parts[-1]:
        raise UserError(
            f"{text!r} names folders, not files; write '{text}**' for all files below them"
        )
    return "/".join(parts[:first]), "/".join(pattern)


@lru_cache(maxsize=64)
def compile_pattern(pattern: str) -> Pattern:
    """Build the automaton of a relative pattern.

    Raises:
        UserError: For two ``**`` in one part.
    """
    steps: list[tuple[int, re.Pattern[str], int]] = []
    parts = pattern.split("/")
    if set(parts[-1]) == {"*"} and len(parts[-1]) > 1:
        # "**" at the end means files at any depth.
        parts.append("*")
    state = 0
    for part in parts:
        before, crossing, after = part.partition("**")
        if "**" in after.lstrip("*"):
            raise UserError(f"{pattern!r}: '{part}' has more than one '**'; put a '/' between them")
        if crossing and not before and not after.strip("*"):
            steps.append((state, _segment("*"), state))
        elif crossing:
            within, across, state = state, state + 1, state + 2
            steps += [
                (within, _segment(f"{before}*{after}"), state),
                (within, _segment(f"{before}*"), across),
                (across, _segment("*"), across),
                (across, _segment(f"*{after}"), state),
            ]
        else:
            steps.append((state, _segment(part), state + 1))
            state += 1
    return Pattern(tuple(steps), state)


def _segment(glob: str) -> re.Pattern[str]:
    """Translate the part of a pattern between two slashes.

    Text between two stars is matched at its first occurrence and never tried again (an atomic
    group): a later occurrence would only leave less of the name for the rest.
    """
    runs = [""]
    position = 0
    while position < len(glob):
        character = glob[position]
        position += 1
        if character == "*":
            runs.append("")
        elif character == "[" and (end := _set_end(glob, position)) > 0:
            runs[-1] += _set(glob[position:end])
            position = end + 1
        else:
            runs[-1] += "." if character == "?" else re.escape(character)
    dot = "" if glob.startswith(".") else r"(?!\.)"
    middle = "".join(f"(?>.*?{run})" for run in runs[1:-1] if run)
    tail = f".*{runs[-1]}" if len(runs) > 1 else ""
    return re.compile(dot + runs[0] + middle + tail, re.DOTALL)


def _set_end(glob: str, start: int) -> int:
    """Find the "]" that ends the set starting at ``start``; a "]" in first place is a member."""
    return glob.find("]", start + (2 if glob.startswith(("!", "^"), start) else 1))


def _set(inside: str) -> str:
    """Translate the text between two brackets to a set of a regular expression."""
    negated = inside[0] in "!^"
    inside = inside[1:] if negated else inside
    items = []
    while inside:
        if len(inside) > 2 and inside[1] == "-":
            low, high, inside = inside[0], inside[2], inside[3:]
            items += [f"{re.escape(low)}-{re.escape(high)}"] if low <= high else []
        else:
            items.append(re.escape(inside[0]))
            inside = inside[1:]
    if not items:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(items)}]"
