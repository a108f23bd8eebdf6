"""Format numbers, times and rows for people."""

from __future__ import annotations

from collections.abc import Sequence

from transforms.names import printable


def size_text(size: float) -> str:
    """Format a size in bytes: ``6.6 GB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def counted(number: int, noun: str) -> str:
    """Format a number of things: ``1 group``, ``2,000 groups``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows in columns as wide as their widest cell; make all cells printable."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def time_text(seconds: float) -> str:
    """Format a time in seconds: ``12 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bar_text(share: float, width: int = 20) -> str:
    """Draw a share from 0 to 1 with letters that every terminal has: ``[#####...............]``."""
    full = round(min(max(share, 0.0), 1.0) * width)
    # A share above 0 is seen.
    full = max(full, 1) if share > 0 else 0
    return f"[{'#' * full}{'.' * (width - full)}]"
