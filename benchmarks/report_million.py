"""Measure the report of a night of a million: ``python -m benchmarks.report_million [IMAGES]``.

Makes a table of a first night and one of ten times as many new images, with vectors of 1280
numbers, 30 notes of earlier nights, and a failure for each hundred images. Reports the last night
twice, in processes of their own: the first one draws the sample of earlier images, the second one
has it. Then it reports the night without pictures, as ``extract`` does. The images themselves are
not there, so the page says in each place that there is none. Fails when a report takes 60 s or
2 GiB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from benchmarks.tables import MadeRows, made_table

# The limits for a million images.
MAX_SECONDS, MAX_BYTES = 60.0, 2 << 30
_NIGHTS = 30
_RUN = "20261126T{:06d}.000Z-0000"


def make_nights(output: Path, images: int) -> None:
    """Write the tables and the notes of a night of ``images`` new images, and of those before it.

    Args:
        output: Folder of the tables.
        images: Of the last night; the first one had a tenth of them.
    """
    from pipeline.state.run import Run
    from pipeline.state.summary import Summary
    from transforms.storage import open_storage

    rows = {0: images // 10, _NIGHTS: images}
    for night, count in rows.items():
        made_table(output, count, MadeRows(night=night, hashes=True))
    failed = images // 100
    _make_failures(output, _RUN.format(_NIGHTS), failed)
    storage = open_storage(str(output))
    for night in range(_NIGHTS + 1):
        start = datetime(2026, 10, 27, 2, tzinfo=UTC) + timedelta(days=night)
        new = rows.get(night, 0)
        counts = Summary(
            _RUN.format(night),
            listed=sum(count for start, count in rows.items() if start <= night),
            new=new,
            embedded=new,
            failed=failed if night == _NIGHTS else 0,
            failures_by_kind={"truncated": failed} if night == _NIGHTS else {},
            seconds={"decode": new / 400, "embed": new / 100},
            version=1,
            bytes_read=new * 120_000,
        )
        run = Run(_RUN.format(night), start.isoformat(), ("/made",), {"backbone": "made"})
        run.end(storage, "published" if new else "unchanged", counts)


def _make_failures(output: Path, run_id: str, count: int) -> None:
    from pipeline.tables import Tables
    from pipeline.tables.commit import Commit
    from transforms.parts.write import write_part
    from transforms.records import ERRORS_SCHEMA
    from transforms.storage import open_storage

    storage = open_storage(str(output))
    moment = datetime(2026, 11, 26, tzinfo=UTC)
    known = {
        "uri": [f"/made/broken/{number:08d}.jpg" for number in range(count)],
        "etag": [""] * count,
        "size": [1] * count,
        "modified": [moment] * count,
        "attempts": [1] * count,
        "first_failed_at": [moment] * count,
        "stage": ["decode"] * count,
        "kind": ["truncated"] * count,
        "message": ["the file ends early"] * count,
        "recipe": ["0" * 64] * count,
        "run_id": [run_id] * count,
    }
    columns = [
        pa.array(known[field.name], field.type)
        if field.name in known
        else pa.nulls(count, field.type)
        for field in ERRORS_SCHEMA
    ]
    rows = pa.table(columns, schema=ERRORS_SCHEMA)
    part = write_part(storage, rows, "errors", f"part-{run_id}", {"backbone": "made"})
    Tables.open(storage).errors.commit(Commit(run_id, [part]))


def report(output: str, pictures: bool) -> None:
    """Report the newest night in this process, and print the figures of the process."""
    from pipeline import ReportConfig, report_night

    start = time.perf_counter()
    made = report_night(output, ReportConfig(pictures=pictures))
    page = made.html
    seconds = time.perf_counter() - start
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    print(made.verdict.sentence)
    print(seconds, int(peak[1]) << 10 if peak else 0, len(page))


def measure(what: str, output: Path, pictures: bool) -> tuple[float, int]:
    """Report the night in a process of its own; return its seconds and its peak memory in bytes."""
    words = [sys.executable, "-m", "benchmarks.report_million", "--report", str(output)]
    words += ["--pictures"] * pictures
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    sentence, figures = done.stdout.splitlines()
    seconds, peak, size = figures.split()
    memory = int(peak) / (1 << 30)
    print(f"{what}: {float(seconds):.1f} s, {memory:.2f} GiB, a page of {int(size):,} bytes")
    print(f"  {sentence}", flush=True)
    return float(seconds), int(peak)


def main() -> None:
    """Make the nights, measure their reports, print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report_million", description=__doc__
    )
    parser.add_argument("images", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="make the nights in this folder once; keep them")
    # For the measured process.
    parser.add_argument("--report", help=argparse.SUPPRESS)
    parser.add_argument("--pictures", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.report:
        report(arguments.report, arguments.pictures)
        return
    with tempfile.TemporaryDirectory() as folder:
        output = arguments.keep or Path(folder)
        if not (output / "runs").exists():
            start = time.perf_counter()
            make_nights(output, arguments.images)
            print(f"made the nights in {time.perf_counter() - start:.0f} s", flush=True)
        (output / "reference/features.npz").unlink(missing_ok=True)
        found = [
            measure("the first report", output, True),
            measure("the second report", output, True),
            measure("without pictures", output, False),
        ]
    share = max(arguments.images / 1_000_000, 1)
    if any(s >= MAX_SECONDS * share or peak >= MAX_BYTES * share for s, peak in found):
        raise SystemExit(
            f"too much: the limit for a million is {MAX_SECONDS:.0f} s and {MAX_BYTES >> 30} GiB"
        )


if __name__ == "__main__":
    main()
