"""Estimate a plan over 10⁹ images: ``python -m benchmarks.plan_billion [IMAGES ...]``.

By default measures 1 and 10 million images. Runs the command's own plan over synthetic listings of
each size, without images: a first night, in which every image is new and its shard is written, and
a night without change against a table of that size. Prints the seconds by million and the memory,
which show that time grows with the images and memory does not, and the estimate for 10⁹.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.plan_million import make_table, measure

# The number of images of a plan that measures the start-up alone.
SMALL = 10_000
BILLION = 1_000_000_000


def first_night(folder: Path, images: int) -> tuple[float, int, int]:
    """Return seconds, bytes of memory and shards of a night in which every image is new."""
    output = folder / "first"
    seconds, peak = measure(f"first night, {images:,}", str(output), 0, images)
    return seconds, peak, sum(1 for _ in output.glob("runs/*/plan/*.parquet"))


def quiet_night(folder: Path, images: int) -> tuple[float, int, int]:
    """Return seconds, bytes of memory and shards (none) of a night in which no image is new."""
    output = folder / "quiet"
    make_table(str(output), images)
    return (*measure(f"quiet night, {images:,}", str(output), 0, images), 0)


def main() -> None:
    """Measure both nights at each size, and print the figures and the estimate for 10⁹ images."""
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
