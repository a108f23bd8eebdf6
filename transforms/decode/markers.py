"""JPEG markers (ITU-T T.81, annex B) of a whole picture: those between the scans too."""

from __future__ import annotations

import re
from collections.abc import Iterator

START, END, SCAN = 0xD8, 0xD9, 0xDA
_MARKER = re.compile(
    rb"\xff[^\x00\xff\xd0-\xd7]",
    re.DOTALL,
    # Neither escaped, fill bytes nor restarts
)


def markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers up to the end of the picture, with their places: not those of metadata, or of what comes behind.

    One that libjpeg might skip alone is skipped alone here, so that no scan hides in its segment.
    """
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        yield marker, at - 2
        if marker == END:
            return
        if marker >= 0xC0 and marker != START:
            at += int.from_bytes(data[at : at + 2])


def scan_count(data: bytes) -> int:
    """How many passes over its picture a JPEG asks for."""
    return sum(marker == SCAN for marker, _ in markers(data))


def jpeg_stops_early(data: bytes) -> bool:
    """Whether a JPEG has no end marker of its own: one in its metadata, or behind the end, is another picture's."""
    return all(marker != END for marker, _ in markers(data))
