"""What a plan over 10⁹ images takes: ``python -m benchmarks.plan_billion [IMAGES ...]``, by default 1 and 10 million.

Runs the command's own plan over synthetic listings of each size, with no images: a first night, in
which every image is new and its shard is written, and a night without change against a table of
that size. Prints seconds and memory by million, shows that both grow as they should (time with the
images, memory not), and says what that makes of 10⁹.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.plan_million import make_table, measure

# Images of a plan whose time and memory are start-up alone
SMALL = 10_000
BILLION = 1_000_000_000


def first_night(folder: Path, images: int) -> tuple[float, int, int]:
    """Seconds, bytes of memory and shards of a night in which every image is new."""
    output = folder / "first"
    seconds, peak = measure(f"first night, {images:,}", str(output), 0, images)
    return seconds, peak, sum(1 for _ in output.glob("runs/*/plan/*.parquet"))


def quiet_night(folder: Path, images: int) -> tuple[float, int, int]:
    """The same of a night in which no image is new."""
    output = folder / "quiet"
    make_table(str(output), images)
    return (*measure(f"quiet night, {images:,}", str(output), 0, images), 0)


def main() -> None:
    """Measure both nights at each size, print the figures and what they make of 10⁹."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_billion", description=__doc__)
    parser.add_argument("images", nargs="*", type=int, default=[1_000_000, 10_000_000])
    parser.add_argument(
        "--night", action="append", choices=("first", "quiet"), help="only this one"
    )
    arguments = parser.parse_args()
    nights = {"first": first_night, "quiet": quiet_night}
    print(
        "| night | images | shards | s | s a million | GiB |\n|---|---|---|---|---|---|", flush=True
    )
    for name in arguments.night or nights:
        lines = []
        start = 0.0
        for images in [SMALL, *arguments.images]:
            with tempfile.TemporaryDirectory() as folder:
                seconds, peak, shards = nights[name](Path(folder), images)
            start = start or seconds
            rate = (seconds - start) / images * 1e6
            lines.append((images, rate, peak, shards))
            print(
                f"| {name} | {images:,} | {shards:,} | {seconds:.1f} | {rate:.2f} | "
                f"{peak / (1 << 30):.2f} |",
                flush=True,
            )
        images, rate, peak, shards = lines[-1]
        hours = rate * BILLION / 1e6 / 3600
        print(
            f"| {name} | 10⁹ (estimate) | {shards * BILLION // images:,} | {hours:.1f} h | "
            f"{rate:.2f} | as above |"
        )


if __name__ == "__main__":
    main()
