"""``make bench``, or parts of it: ``python -m benchmarks --part speed --rounds 5``."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.parts import PARTS, Row, Settings


def main() -> None:
    """Measure, print the table as Markdown, and draw the ratios if asked to."""
    defaults = Settings(Path(tempfile.gettempdir()) / "image-features-bench")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="measurements of each case")
    parser.add_argument("--images", type=Path, default=defaults.folder, help="where the images are made")
    parser.add_argument("--backbone", action="append", help="of the part speed")
    parser.add_argument("--engine", action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument("--chart", type=Path, help="draw the ratios into this PNG")
    arguments = parser.parse_args()
    settings = Settings(
        arguments.images,
        arguments.rounds,
        tuple(arguments.backbone or defaults.backbones),
        tuple(arguments.engine or defaults.engines),
        tuple(arguments.precision or defaults.precisions),
    )
    print(f"{machine()}; {datetime.now(UTC):%Y-%m-%d}; medians of {settings.rounds}\n")
    print("| what | seen | wanted | met | |\n|---|---|---|---|---|", flush=True)
    rows = []
    for name in arguments.part or PARTS:
        for row in PARTS[name](settings):
            rows.append(row)
            print(line(row), flush=True)
    if arguments.chart:
        draw(rows, arguments.chart)


def machine() -> str:
    """Processor and cores."""
    names = [text.split(":")[1].strip() for text in _cpuinfo() if text.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.processor()}, {cores} cores, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def line(row: Row) -> str:
    """A row as Markdown."""
    limit = "" if row.wanted is None else f"{'≤' if row.at_most else '≥'} {row.wanted:g}"
    return f"| {row.what} | {row.seen:.2f} {row.unit} | {limit} | {row.met} | {row.detail} |"


def draw(rows: list[Row], path: Path) -> None:
    """Bars of the ratios, with the wanted value as a mark."""
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.unit in ("", "×") and not row.at_most]
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(shown) + 1.2), layout="constrained")
    places = range(len(shown))
    axes.barh(places, [row.seen for row in shown], color="#3b6ea5")
    for place, row in zip(places, shown, strict=True):
        axes.text(row.seen, place, f" {row.seen:.2f}", va="center")
        if row.wanted is not None:
            axes.plot([row.wanted] * 2, [place - 0.4, place + 0.4], color="#c0392b")
    axes.set_yticks(places, [row.what for row in shown])
    axes.invert_yaxis()
    axes.set_title(f"ratios, medians; red: wanted. {machine()}", fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
