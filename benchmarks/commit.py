"""Measure the cost of very many parts: ``python -m benchmarks.commit [PARTS ...]``.

By default 1,000, 10,000 and 100,000 parts. Writes receipts as workers do, reads them back, and
commits their parts in one transaction, through the functions that a run calls. The part files do
not exist, since a commit does not read them. Then measures how long a reader and the next night's
plan take to open such a table.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import peak_mib

ROWS = 2048
URI = "s3://photos/2024/{:03d}/{:08x}-{:09d}.jpg"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds of a block, and the peak memory so far."""
    start = time.perf_counter()
    yield
    print(f"| {what} | {time.perf_counter() - start:.1f} s | {peak_mib():.0f} MiB |", flush=True)


def write_receipts(output: str, parts: int) -> None:
    """Write receipts of shards without failures into the output."""
    from transforms.parts.write import Part, Receipt, encode_receipt
    from transforms.storage import open_storage

    storage = open_storage(output)
    run_id = "20261124T221943.127Z-1f9c"

    def write(number: int) -> None:
        first, last = (
            URI.format(number % 366, number, n) for n in (number * ROWS, number * ROWS + ROWS - 1)
        )
        minima = {"uri": first, "recipe": "0" * 64, "run_id": run_id}
        part = Part(
            f"part-{run_id}-shard-{number:05d}-0123456789ab.parquet",
            10 << 20,
            ROWS,
            minima,
            {**minima, "uri": last},
        )
        seconds = {"read": 1.5, "decode": 4.2, "embed": 11.0, "reuse": 0.1, "write": 0.5}
        receipt = Receipt(f"shard-{number:05d}", ROWS, part, (), ROWS * 130_000, seconds)
        storage.write(f"runs/{run_id}/receipts/{receipt.shard}.json", encode_receipt(receipt))

    # A cluster writes these many small files to a store, not to the disk of one machine.
    os.fsync = lambda _: None  # type: ignore[assignment]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(parts)))


def commit(output: str, parts: int) -> None:
    """Measure the driver's end of a night, in a process of its own."""
    from pipeline.state.run import Run
    from pipeline.tables import Tables
    from pipeline.tables.commit import Commit
    from transforms.storage import open_storage

    run = Run("20261124T221943.127Z-1f9c", "", (), {})
    with timed(f"{parts:,} receipts listed and read"):
        receipts = run.receipts(open_storage(output))
    table = Tables.open(open_storage(output)).features
    with timed(f"{parts:,} parts committed"):
        table.commit(Commit(run.run_id, [receipt.part for receipt in receipts if receipt.part]))
    assert len(table.parts) == parts


def look(output: str, parts: int) -> None:
    """Measure a reader and the next plan, in a process of its own."""
    from deltalake import DeltaTable

    from pipeline.tables import Tables
    from transforms.plan import ranges
    from transforms.storage import open_storage

    with timed(f"{parts:,} parts: a reader opens the table"):
        opened = DeltaTable(f"{output}/features")
        assert len(opened.file_uris()) == parts
    with timed(f"{parts:,} parts: the plan opens the table"):
        table = Tables.open(open_storage(output)).features
        row_counts = table.row_counts()
    cut = ranges(row_counts, 2_000_000)
    some = cut[:: max(1, len(cut) // 10)]
    with timed(f"{parts:,} parts: {len(some)} of {len(cut)} ranges find theirs"):
        for within in some:
            bounds = [("uri", ">=", within.low or "a"), ("uri", "<", within.high or "z")]
            found = opened.to_pyarrow_dataset(file_pruning_predicate=bounds).files
            assert 0 < len(found) <= parts


def main() -> None:
    """Measure each number of parts, in processes of their own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commit", description=__doc__)
    parser.add_argument("parts", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    # For the measured process.
    parser.add_argument("--in", dest="place", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.place:
        step, output = arguments.place
        {"commit": commit, "look": look}[step](output, *arguments.parts)
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    print("| what | time | memory |\n|---|---|---|", flush=True)
    for parts in arguments.parts:
        with tempfile.TemporaryDirectory() as output:
            write_receipts(output, parts)
            for step in ("commit", "look"):
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.commit", str(parts), "--in", step, output],
                    check=True,
                )
            log = sum(file.stat().st_size for file in Path(output, "features/_delta_log").iterdir())
            print(f"| {parts:,} parts: the log | {log / (1 << 20):.0f} MiB | |", flush=True)


if __name__ == "__main__":
    main()
