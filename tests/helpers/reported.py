"""Make nights that reports tell about, and read the figures on a page."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

from tests.helpers.crops import make_crops

OLD = "chelsea coffee camera astronaut"
HOSTILE = "<script>alert(1)<!-- \u202e.jpg"


def night(root: Path, output: str = "out", **options: Any) -> Any:
    """Extract the crops of a folder."""
    from pipeline import Config, extract

    inputs = (str(root / "crops"),)
    return extract(Config(inputs=inputs, output=str(root / output), max_failure_rate=1, **options))


def make_nights(root: Path, photos: Path) -> Path:
    """Extract crops of four photos, then more of them, and then of another, and a broken file.

    Copies of the output after each night stay beside it.
    """
    make_crops(root / "made", photos, f"{OLD} rocket", 80, 96)
    for start, stop, names in ((0, 60, OLD), (60, 80, OLD), (0, 60, "rocket")):
        for name in names.split():
            for number in range(start, stop):
                place = root / f"crops/{name}/{number:03d}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                (root / f"made/{name}/{number:03d}.jpg").rename(place)
        if names == "rocket":
            (root / "crops/rocket" / HOSTILE).write_bytes(b"no image")
        night(root)
        shutil.copytree(root / "out", root / f"out-{start}-{len(names)}")
    return root


def numbers(page: str, row: str) -> list[str]:
    """Return the cells of the row of a table that begins with a word, as text."""
    found = re.search(rf"<tr><td[^>]*>{re.escape(row)}</td>(.*?)</tr>", page, re.DOTALL)
    assert found, row
    cells = re.findall(r"<td[^>]*>(.*?)</td>", found[1], re.DOTALL)
    return [unescape(cell) for cell in cells if not cell.startswith("<svg")]
