"""Fill the page of a night: its values are made here, its HTML is in page.html."""

from __future__ import annotations

import base64
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import islice

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.reports import charts
from pipeline.reports.html import html_page
from pipeline.reports.night import verdict
from pipeline.reports.night.content import Content
from pipeline.reports.night.drift import Floats, main_directions
from pipeline.reports.night.facts import WEEK, Facts, Failure
from pipeline.reports.night.sources import rows_by_source
from pipeline.reports.text import size_text
from pipeline.state.run import Run
from transforms.names import printable

_FOLDERS, _LABELS, _NAMES = 20, 20, 5
# A few thousand dots are a cloud, and take 100 KB.
_DOTS = 1500


def night_page(content: Content, before: str = "") -> str:
    """Return the page as HTML. Every name on it is escaped.

    Args:
        content: What it shows.
        before: A link to the page of the night before; "" for none.
    """
    facts = content.facts
    run, counts = facts.tonight.run, facts.tonight.counts
    lengths = np.linalg.norm(content.tonight.vectors, axis=1)
    body = (
        templates()
        .get_template("page.html")
        .render(
            facts=facts,
            run=run,
            counts=counts,
            verdict=content.verdict,
            before=facts.before[0].run if facts.before else None,
            link=before,
            nights=[*reversed(facts.before), facts.tonight],
            sources=rows_by_source(run.inputs, facts.rows["uri"]),
            folders=facts.folders,
            failures=_first_failures(facts),
            seconds=sum(counts.seconds.values()),
            price=content.price,
            pictures=content.pictures,
            labels=_labels(facts),
            lengths=lengths,
            zeros=int((lengths == 0).sum()),
            drift=content.drift,
            places=_places(content),
        )
    )
    table = f" in features-{run.table}" if run.table else ""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    return html_page(f"Night of {run.started_at[:10]}{table}", style, [body])


def templates() -> Environment:
    """Return what reads page.html: a value is escaped, and one that is missing is an error."""
    made = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"week": WEEK, "most": _FOLDERS, "first": _NAMES, "limits": verdict}
    for draw in (charts.bar, charts.histogram, charts.scatter, charts.sparkline):
        made.globals[draw.__name__] = draw
    made.filters |= {
        "number": lambda value: "" if value is None else f"{value:,.0f}",
        "short": lambda value: f"{value:,.2f}" if value >= 1 else f"{value:.3g}",
        "size": size_text,
        "command": lambda run, output: _command(output, run),
        "base64": lambda data: base64.b64encode(data).decode(),
    }
    made.tests["jpeg"] = lambda picture: isinstance(picture, bytes)
    return made


def _command(output: str, run: Run) -> str:
    """Return the command that reports a night."""
    words = ["image-features", "report", output, "--run", run.run_id]
    return shlex.join([*words, "--table", run.table] if run.table else words)


def _first_failures(facts: Facts) -> Mapping[str, Sequence[Failure]]:
    """Return some failures of each kind, by their names."""
    return {
        kind: list(islice((own for own in facts.failures if own.kind == kind), _NAMES))
        for kind in facts.kinds
    }


def _labels(facts: Facts) -> Sequence[tuple[str, int, float, float]]:
    """Return the most frequent labels: rows added, their share, and the share of the table."""
    tonight = Counter(label for label in facts.rows["label"].to_pylist() if label)
    new, every = sum(tonight.values()), max(sum(facts.labels.values()), 1)
    return [
        (label, count, count / new, facts.labels.get(label, 0) / every)
        for label, count in tonight.most_common(_LABELS)
    ]


def _places(content: Content) -> tuple[Floats, Floats] | None:
    """Return both samples in the two main directions of the earlier one, [n, 2] each."""
    if content.drift is None or content.earlier is None:
        return None
    earlier, tonight = content.earlier.vectors, content.tonight.vectors
    mean = earlier.mean(axis=0)
    plane = main_directions(earlier - mean, 2)
    return (earlier[:_DOTS] - mean) @ plane, (tonight[:_DOTS] - mean) @ plane
