"""Measure a night without change: ``python -m benchmarks.plan_million [IMAGES]``.

Makes a synthetic listing, and a Delta table of parts with the real schema. Only the vectors are
short, 8 numbers, since the plan does not read them. Runs the command's own function twice: without
change, and with 3,000 new images and 1,000 removed, where it stops before the workers start. Fails
when the night without change takes 60 s or 2 GiB or more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

# The limits for a million images.
MAX_SECONDS, MAX_BYTES = 60.0, 2 << 30
PART_ROWS = 8192
DIMENSION = 8
INPUT = "s3://photos/2024"


def references(first: int, count: int) -> pa.Table:
    """Return synthetic images of a bucket, with realistic keys, etags and sizes.

    Args:
        first: Number of the first image.
        count: How many images.

    Returns:
        A table of ``LISTING_SCHEMA``.
    """
    from transforms.records import LISTING_SCHEMA

    numbers = np.arange(first, first + count)
    days, names = numbers // 5000 % 366, (numbers * 2654435761) % (1 << 32)
    uris = [
        f"{INPUT}/{day:03d}/{name:08x}-{n:09d}.jpg"
        for day, name, n in zip(days, names, numbers, strict=True)
    ]
    etags = [f"{n * 0x9E3779B97F4A7C15 % (1 << 128):032x}" for n in numbers.tolist()]
    sizes = 30_000 + numbers * 7919 % 400_000
    modified = pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * count, pa.timestamp("us", tz="UTC"))
    known = [uris, etags, pa.array(sizes, pa.int64()), modified]
    others = [pa.nulls(count, field.type) for field in list(LISTING_SCHEMA)[len(known) :]]
    return pa.table([*known, *others], schema=LISTING_SCHEMA)


def make_table(output: str, images: int) -> None:
    """Write the features and errors tables of a first night with ``images`` images."""
    from pipeline import Config
    from pipeline.state.run import Run
    from pipeline.steps.session import make_recipe
    from pipeline.tables import Tables
    from pipeline.tables.commit import Commit
    from transforms.backbones import resolve
    from transforms.parts.write import write_part
    from transforms.records import features_schema
    from transforms.storage import open_storage

    storage = open_storage(output)
    config = Config(inputs=(INPUT,), output=output)
    recipe = make_recipe(config, resolve(config.network))
    schema = features_schema(DIMENSION)
    parts = []
    for first in range(0, images, PART_ROWS):
        rows = _rows(first, min(PART_ROWS, images - first), schema)
        parts.append(write_part(storage, rows, "features", f"part-first-{first:09d}", recipe))
    tables = Tables.open(storage)
    tables.errors.commit(Commit("first", []))
    tables.features.commit(Commit("first", parts))
    Run("first", "", config.inputs, recipe, state="published", covers=config.inputs).save(storage)


def _rows(first: int, count: int, schema: pa.Schema) -> pa.Table:
    known = references(first, count)
    random = np.random.default_rng(first)
    vectors = pa.array(random.random(count * DIMENSION, np.float32))
    filled = {
        "content_sha256": [random.bytes(32).hex() for _ in range(count)],
        "recipe": ["0" * 64] * count,
        "run_id": ["first"] * count,
        "embedding": pa.FixedSizeListArray.from_arrays(
            vectors, type=schema.field("embedding").type
        ),
        **{name: known[name] for name in known.column_names},
    }
    columns = [filled.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.table(columns, schema=schema)


def make_listing(output: str, folder: str, first: int, count: int) -> None:
    """Write listing files like those of the listing's workers, in 32 pieces."""
    from transforms.sources.files import write_listing_file
    from transforms.storage import open_storage

    edges = np.linspace(first, first + count, 33).astype(int).tolist()
    for number, (start, end) in enumerate(pairwise(edges)):
        images = references(start, end - start)
        write_listing_file(open_storage(output), f"{folder}/{number:06d}-0000", images, 0)


def plan(output: str, folder: str) -> None:
    """Run the command's function in this process, on existing listing files and without workers."""
    from pipeline import Config, extract
    from pipeline.steps.listing import Listing
    from transforms.storage import open_storage

    class Planned(Exception):
        """The plan is made, and workers would start."""

    def stop(*_: object) -> None:
        raise Planned

    def listed(*_: object) -> AbstractContextManager[Listing]:
        return nullcontext(Listing(open_storage(output), folder))

    start = time.perf_counter()
    # The first call after the plan asks for the missing shards.
    with (
        patch("pipeline.steps.plan.list_sources", listed),
        patch("pipeline.steps.extract.missing_shards", stop),
    ):
        try:
            print(extract(Config(inputs=(INPUT,), output=output)))
        except Planned:
            print("planned")
    seconds = time.perf_counter() - start
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    print(seconds, int(peak[1]) << 10 if peak else 0)


def measure(what: str, output: str, first: int, count: int) -> tuple[float, int]:
    """Run the plan in a process of its own.

    Args:
        what: Name of the measurement.
        output: Folder of the tables.
        first: Number of the first listed image.
        count: How many images are listed.

    Returns:
        The seconds of the run, and the peak memory of its process in bytes.
    """
    folder = f"listings/{first}"
    make_listing(output, folder, first, count)
    words = [sys.executable, "-m", "benchmarks.plan_million", "--plan", output, folder]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    outcome, figures = done.stdout.splitlines()
    seconds, peak = figures.split()
    print(f"{what}: {float(seconds):.1f} s, {int(peak) / (1 << 30):.2f} GiB; {outcome}", flush=True)
    return float(seconds), int(peak)


def main() -> None:
    """Make the table, measure both nights, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_million", description=__doc__)
    parser.add_argument("images", nargs="?", type=int, default=1_000_000)
    # For the measured process.
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        plan(*arguments.plan)
        return
    images = arguments.images
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        make_table(folder, images)
        print(f"made a table of {images:,} rows in {time.perf_counter() - start:.0f} s", flush=True)
        seconds, peak = measure("a night without change", folder, 0, images)
        measure("3,000 new, 1,000 removed", folder, 1000, images + 2000)
    share = max(images / 1_000_000, 1)
    if seconds >= MAX_SECONDS * share or peak >= MAX_BYTES * share:
        raise SystemExit(
            f"too much: the limit for a million is {MAX_SECONDS:.0f} s and {MAX_BYTES >> 30} GiB"
        )


if __name__ == "__main__":
    main()
