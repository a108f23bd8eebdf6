"""Run ``make bench``, or parts of it: ``python -m benchmarks --part speed --rounds 5``."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.parts import PARTS
from benchmarks.rows import HEAD, Settings, draw, merge


def main() -> None:
    """Measure, print the table as Markdown, and draw the ratios with ``--chart``."""
    defaults = Settings(Path(tempfile.gettempdir()) / "image-features-bench")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="only this part; may be repeated"
    )
    parser.add_argument(
        "--rounds", type=int, default=defaults.rounds, help="measurements of each case"
    )
    parser.add_argument(
        "--images", type=Path, default=defaults.folder, help="where the images are made"
    )
    parser.add_argument("--backbone", action="append", help="of the part speed")
    parser.add_argument("--engine", action="append")
    parser.add_argument("--precision", action="append")
    parser.add_argument(
        "--results",
        type=Path,
        help="add the rows to this file of JSON, over earlier ones of the name",
    )
    parser.add_argument(
        "--chart", type=Path, help="draw the ratios into this PNG, those of --results included"
    )
    arguments = parser.parse_args()
    settings = Settings(
        arguments.images,
        arguments.rounds,
        tuple(arguments.backbone or defaults.backbones),
        tuple(arguments.engine or defaults.engines),
        tuple(arguments.precision or defaults.precisions),
    )
    title = f"{machine()}; {datetime.now(UTC):%Y-%m-%d}; medians of {settings.rounds}"
    print(f"{title}\n\n{HEAD}", flush=True)
    rows = []
    for name in arguments.part or PARTS:
        for row in PARTS[name](settings):
            rows.append(row)
            print(row, flush=True)
            # Write each row at once, so that a late failure does not lose an hour's work.
            if arguments.results:
                merge(arguments.results, [row])
    if arguments.chart:
        draw(
            merge(arguments.results, rows) if arguments.results else rows,
            f"red: wanted. {title}",
            arguments.chart,
        )


def machine() -> str:
    """Return the processor, its cores and the version of Python as text."""
    names = [text.split(":")[1].strip() for text in _cpuinfo() if text.startswith("model name")]
    processor = names[0] if names else platform.processor()
    cores = len(os.sched_getaffinity(0))
    return f"{processor}, {cores} cores, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
