"""Say in one sentence how a night went, and name what is unusual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reports.night.drift import Drift
from pipeline.reports.night.facts import Facts
from pipeline.reports.text import counted

# A few images that are unlike all others are usual: 1 to 2 % of them are, by the way that novelty
# is measured. The other two read 0.5 and 0.03 when nothing has changed.
NOVELTY, SEPARABILITY, COMPONENTS = 0.03, 0.6, 0.2
_TIMES = 3
# Below, a share says nothing.
_FEW = 5
# Of the listed images, or of those of the table.
_SHARE = 0.01
_LOST = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a night went."""

    sentence: str
    unusual: Sequence[str]
    drifts: bool  # whether the vectors are among what is unusual


def judge(
    facts: Facts, drift: Drift | None, zeros: int, novelties: Sequence[float] = ()
) -> Verdict:
    """Judge a night.

    Args:
        facts: What the run left behind.
        drift: How far its vectors differ from earlier ones; None if too few.
        zeros: Vectors of zeros among the new rows that were looked at.
        novelties: Of the last nights, as their reports say.
    """
    drifted = _drifted(drift, novelties)
    unusual = [*_counts(facts), *drifted]
    if zeros:
        unusual.append(f"{counted(zeros, 'vector')} of zeros")
    start = _start(facts)
    what = f"unusual: {'; '.join(unusual)}" if unusual else "nothing unusual"
    return Verdict(f"{start}, {what}.", tuple(unusual), bool(drifted))


def _start(facts: Facts) -> str:
    run, counts = facts.tonight.run, facts.tonight.counts
    came = f"{counted(counts.new, 'new image')}, {counts.failed:,} failed"
    if run.state == "published":
        return f"Published version {counts.version}: {came}"
    if run.state == "unchanged" and counts.relabelled:
        return f"Published new labels of {counts.relabelled:,} rows: no new images"
    done = {
        "unchanged": "Nothing was to be done",
        "refused": f"Refused, nothing was published: {came}, {counts.removed:,} to remove",
        "superseded": "Given up, nothing was published: other options or another run replaced it",
    }
    return done.get(
        run.state,
        f"Not finished, nothing is published yet: {counted(counts.todo, 'image')} to do at first",
    )


def _counts(facts: Facts) -> list[str]:
    counts = facts.tonight.counts
    found = []
    if _stands_out(counts.failed, facts.usual("failed"), _SHARE * max(counts.tried, 1)):
        found.append(f"{counts.failed:,} images failed{_instead(facts.usual('failed'))}")
    if _stands_out(counts.removed, facts.usual("removed"), _SHARE * max(facts.table_rows, 1)):
        found.append(f"{counts.removed:,} images left{_instead(facts.usual('removed'))}")
    if facts.before:
        last = facts.before[0].counts.listed
        if counts.listed < (1 - _LOST) * last:
            found.append(f"{counts.listed:,} images are listed instead of {last:,} last time")
    rate, usual = facts.tonight.rate, facts.usual_rate
    # A short run measures its own start.
    if rate and usual and rate < usual / 2 and counts.tried >= 1000:
        found.append(f"{rate:,.0f} images/s instead of {usual:,.0f}")
    return found


def _stands_out(count: int, usual: float | None, least: float) -> bool:
    return count >= _FEW and count > least and count > _TIMES * (usual or 0)


def _instead(usual: float | None) -> str:
    return "" if usual is None else f" instead of {usual:,.0f}"


def _drifted(drift: Drift | None, novelties: Sequence[float]) -> list[str]:
    if drift is None:
        return []
    found = []
    usual = sorted(novelties)[len(novelties) // 2] if novelties else 0.0
    if drift.novelty > max(NOVELTY, _TIMES * usual):
        found.append(f"{drift.novelty:.1%} of the new images are unlike any earlier one")
    if drift.components > COMPONENTS:
        found.append(f"{drift.components:.0%} of the vector's numbers are distributed differently")
    if drift.separability > SEPARABILITY:
        found.append(
            f"new images can be told from earlier ones (separability {drift.separability:.2f})"
        )
    return found
