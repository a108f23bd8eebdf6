"""Hold all that the page of a night shows."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.reports.night.drift import Drift
from pipeline.reports.night.facts import Facts
from pipeline.reports.night.pictures import Pictures
from pipeline.reports.night.sample import Sample
from pipeline.reports.night.verdict import Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """All that a page shows."""

    facts: Facts
    verdict: Verdict
    tonight: Sample
    earlier: Sample | None
    drift: Drift | None
    pictures: Pictures | None  # None when they were not asked for
    price: float | None = None  # of an hour of a worker, in any currency; None if unknown
