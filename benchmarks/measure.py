"""Measure cases in processes of their own, in turn, several rounds; quote medians.

One round runs every case once, so that a machine whose speed drifts slows all of them alike, and
ratios hold.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.cases import Case

TIMEOUT = 1800  # seconds for one measurement


@dataclass(frozen=True, slots=True)
class Figure:
    """What one measurement of a case gave."""

    images_per_second: float
    peak_mib: float
    # What a case that compares has measured.
    by_name: Mapping[str, float] = field(default_factory=dict)


def alternate(cases: Mapping[str, Case], rounds: int) -> dict[str, list[Figure]]:
    """Measure all cases in turn, ``rounds`` times."""
    figures: dict[str, list[Figure]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            figures[name].append(measure(case))
            speed = figures[name][-1].images_per_second
            print(f"  round {number + 1}/{rounds}  {name}: {speed:.1f} images/s", file=sys.stderr)
    return figures


def measure(case: Case) -> Figure:
    """One measurement in a new process."""
    words = [sys.executable, "-m", "benchmarks.child", json.dumps(asdict(case))]
    environment = {**os.environ, "no_proxy": "localhost,127.0.0.1"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case.kind} failed:\n{done.stderr[-2000:]}")
    return Figure(**json.loads(done.stdout.splitlines()[-1]))


def median_speed(figures: list[Figure]) -> float:
    """The median images per second of some measurements."""
    return statistics.median(figure.images_per_second for figure in figures)


def median_ratio(above: list[Figure], below: list[Figure]) -> float:
    """The median over rounds of the ratio within each round."""
    pairs = zip(above, below, strict=True)
    return statistics.median(a.images_per_second / b.images_per_second for a, b in pairs)


def peak_mib() -> float:
    """The most memory that this process held so far, MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else float("nan")
