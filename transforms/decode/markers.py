"""Find the JPEG markers (ITU-T T.81, annex B) of a whole picture, also between the scans."""

from __future__ import annotations

import re
from collections.abc import Iterator

START, END, SCAN = 0xD8, 0xD9, 0xDA
# Not an escaped 0xFF, a fill byte or a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


def markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers up to the end of the picture, each with its position.

    Markers within metadata, or after the end, are left out. Where libjpeg might skip a marker
    without its segment, so does this, so that no scan can hide in the segment.
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
    """Return the number of scans of a JPEG, each of them a pass over the picture."""
    return sum(marker == SCAN for marker, _ in markers(data))


def jpeg_stops_early(data: bytes) -> bool:
    """Tell whether a JPEG lacks its own end marker; those of other pictures in it do not count."""
    return all(marker != END for marker, _ in markers(data))
