"""Write the benchmark's rows as a Markdown table, a file of results and a chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and how often."""

    folder: Path  # of the images, made when missing
    rounds: int = 5
    backbones: tuple[str, ...] = ("efficientnet_lite0", "MobileNetV2", "ResNet50")
    engines: tuple[str, ...] = ("openvino", "tensorflow")
    precisions: tuple[str, ...] = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a measured value and its goal."""

    what: str
    seen: float
    unit: str
    wanted: float | None = None
    at_most: bool = False  # whether ``wanted`` is a maximum, not a minimum
    detail: str = ""

    @property
    def met(self) -> str:
        """``yes``, ``NO``, or nothing for a row without a goal."""
        if self.wanted is None:
            return ""
        return (
            "yes"
            if (self.seen <= self.wanted if self.at_most else self.seen >= self.wanted)
            else "NO"
        )

    def __str__(self) -> str:
        """The row as Markdown."""
        limit = "" if self.wanted is None else f"{'≤' if self.at_most else '≥'} {self.wanted:g}"
        digits = ".4f" if "cosine" in self.what or self.unit == "of length" else ".2f"
        seen = f"{self.seen:{digits}} {self.unit}"
        return f"| {self.what} | {seen} | {limit} | {self.met} | {self.detail} |"


HEAD = "| what | seen | wanted | met | |\n|---|---|---|---|---|"


def merge(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Add rows to a file of results, replace those of the same name, and return all rows."""
    earlier = (
        [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        if path.exists()
        else []
    )
    merged = list({row.what: row for row in [*earlier, *rows]}.values())
    path.write_text(
        json.dumps([asdict(row) for row in merged], indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    return merged


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw the ratios as bars, with the wanted value as a mark, into a picture file."""
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.unit in ("of the bound", "×") and not row.at_most]
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(shown) + 1.2), layout="constrained")
    places = range(len(shown))
    axes.barh(places, [row.seen for row in shown], color="#3b6ea5")
    for place, row in zip(places, shown, strict=True):
        axes.text(row.seen, place, f" {row.seen:.2f} {row.unit}", va="center", fontsize=8)
        if row.wanted is not None:
            axes.plot([row.wanted] * 2, [place - 0.4, place + 0.4], color="#c0392b")
    axes.set_yticks(places, [row.what for row in shown], fontsize=8)
    axes.set_xlim(right=1.15 * max(row.seen for row in shown))
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=110)
