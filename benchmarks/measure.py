"""Measure cases in turn, each in a process of its own, over several rounds; return medians.

One round runs every case once. So a machine whose speed drifts slows all cases alike, and the
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
    """The result of one measurement of a case."""

    images_per_second: float
    peak_mib: float
    # The values of a case that compares several things.
    by_name: Mapping[str, float] = field(default_factory=dict)


def alternate(cases: Mapping[str, Case], rounds: int) -> dict[str, list[Figure]]:
    """Measure all cases in turn.

    Args:
        cases: The cases, by name.
        rounds: How many times each case is measured.

    Returns:
        The figures of each case, in the order of the rounds.
    """
    figures: dict[str, list[Figure]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            figures[name].append(measure(case))
            speed = figures[name][-1].images_per_second
            print(f"  round {number + 1}/{rounds}  {name}: {speed:.1f} images/s", file=sys.stderr)
    return figures


def measure(case: Case) -> Figure:
    """Measure a case once, in a new process.

    Raises:
        SystemExit: The case failed.
    """
    words = [sys.executable, "-m", "benchmarks.child", json.dumps(asdict(case))]
    environment = {**os.environ, "no_proxy": "localhost,127.0.0.1"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case.kind} failed:\n{done.stderr[-2000:]}")
    return Figure(**json.loads(done.stdout.splitlines()[-1]))


def median_speed(figures: list[Figure]) -> float:
    """Return the median images per second of some measurements."""
    return statistics.median(figure.images_per_second for figure in figures)


def median_ratio(above: list[Figure], below: list[Figure]) -> float:
    """Return the median over rounds of the ratio within each round."""
    pairs = zip(above, below, strict=True)
    return statistics.median(a.images_per_second / b.images_per_second for a, b in pairs)


def peak_mib() -> float:
    """Return the peak memory of this process so far, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else float("nan")
