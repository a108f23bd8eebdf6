"""Compare our whole job with the bound of the machine: 1 / (1/decode + 1/model)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from benchmarks.cases import Case
from benchmarks.measure import alternate
from benchmarks.rows import Row


def of_bound(cases: Mapping[str, Case], rounds: int) -> Iterator[Row]:
    """Measure cases of the kind ``against_bound``; yield the share of the bound of each."""
    for name, figures in alternate(dict(cases), rounds).items():
        seen = {
            kind: statistics.median(figure.by_name[kind] for figure in figures)
            for kind in figures[0].by_name
        }
        detail = ", ".join(f"{kind} {rate:.0f}/s" for kind, rate in seen.items())
        ratio = statistics.median(_share(**figure.by_name) for figure in figures)
        yield Row(name, ratio, "of the bound", 0.90, detail=detail)


def _share(decode: float, model: float, ours: float) -> float:
    """Return a round's share of the bound of the same round; all three in images per second."""
    return ours * (1 / decode + 1 / model)
