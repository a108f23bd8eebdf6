"""Write the report of a night as one page that opens from the disk and prints."""

from __future__ import annotations

import base64
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.reports.charts import bar, histogram, scatter, sparkline
from pipeline.reports.html import html_page, text_of
from pipeline.reports.night.drift import Drift, main_directions
from pipeline.reports.night.facts import Facts
from pipeline.reports.night.pictures import Pictures, Shown
from pipeline.reports.night.sample import Sample
from pipeline.reports.night.verdict import COMPONENTS, NOVELTY, SEPARABILITY, Verdict
from pipeline.reports.text import size_text

_STYLE = """\
body { max-width: 72rem; margin: 1.5rem auto; padding: 0 1rem }
table { border-collapse: collapse }
td, th { padding: 0.15rem 1.2rem 0.15rem 0; text-align: left; vertical-align: middle }
td.names { overflow-wrap: anywhere; min-width: 12rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto }
.calm { color: #2a7d2a } .alarm { color: #c2410c; font-weight: 600 }
ol { list-style: none; padding: 0; display: grid; gap: 0.7rem;
 grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)) }
figure { margin: 0; font-size: 0.75rem; overflow-wrap: anywhere }
img { max-width: 100%; height: 6rem; object-fit: contain }
small { opacity: 0.75 }
svg { max-width: 100%; height: auto }
@media (prefers-color-scheme: dark) { .calm { color: #7ccf7c } .alarm { color: #ff9d5c } }
@media print { ol { break-inside: avoid } }
"""
_FOLDERS, _LABELS, _NAMES = 20, 20, 5
# Letters that fit beside other columns on a narrow page.
_LONG = 24


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """All that a page shows."""

    facts: Facts
    verdict: Verdict
    tonight: Sample
    earlier: Sample | None
    drift: Drift | None
    pictures: Pictures


def night_page(content: Content) -> str:
    """Return the page as HTML. Every name on it is escaped."""
    facts = content.facts
    run = facts.tonight.run
    about = f"run {run.run_id} of {run.started_at}; {facts.output}"
    parts = [
        _verdict(content.verdict),
        f"<p>{text_of(str(facts.tonight.counts))}</p>\n",
        f"<p><small>{text_of(about)}{_before(facts)}</small></p>\n",
        _came(facts),
        _failures(facts),
        _time(facts),
        *_pictures(content.pictures),
        _labels(facts),
        _vectors(content),
        _recipe(facts),
    ]
    table = f" in features-{run.table}" if run.table else ""
    return html_page(f"Night of {run.started_at[:10]}{table}", _STYLE, parts)


def _before(facts: Facts) -> str:
    """Return a line that names the night before, and how to report it."""
    if not facts.before:
        return ""
    run = facts.before[0].run
    words = ["image-features report", shlex.quote(facts.output), f"--run {run.run_id}"]
    if run.table:
        words.append(f"--table {run.table}")
    return f"<br>the night before: {text_of(' '.join(words))}"


def _verdict(verdict: Verdict) -> str:
    kind = "alarm" if verdict.unusual else "calm"
    return f'<p class="{kind}"><b>{text_of(verdict.sentence)}</b></p>\n'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are HTML, and those that begin with a digit stand to the right."""

    def cells(row: Sequence[str], kind: str) -> str:
        each = (f"<{kind}{_side(cell)}>{cell}</{kind}>" for cell in row)
        return f"<tr>{''.join(each)}</tr>\n"

    body = "".join(cells(row, "td") for row in rows)
    return f'<div class="scroll"><table>\n{cells(head, "th")}{body}</table></div>\n'


def _side(cell: str) -> str:
    if cell[:1].isdigit():
        return ' class="n"'
    return ' class="names"' if len(cell) > _LONG and not cell.startswith("<") else ""


def _came(facts: Facts) -> str:
    nights = [night.counts for night in reversed(facts.before)] + [facts.tonight.counts]
    rates = [night.rate for night in reversed(facts.before)] + [facts.tonight.rate]
    counts = facts.tonight.counts
    rows: list[Sequence[str]] = []
    for name in ("listed", "new", "changed", "removed", "failed"):
        usual = facts.usual(name)
        line = sparkline(f"{name}, the last nights", [getattr(own, name) for own in nights])
        said = "" if usual is None else f"{usual:,.0f}"
        rows.append((name, f"{getattr(counts, name):,}", said, line))
    speed = [f"{rate:,.0f}" if rate else "" for rate in (facts.tonight.rate, facts.usual_rate)]
    rows.append(("images/s", *speed, sparkline("images/s, the last nights", rates)))
    read = (
        f"read {size_text(counts.bytes_read)}, wrote {size_text(counts.bytes_written)}; the table"
    )
    head = ("", "tonight", "median of 7 nights", f"the last {len(nights)} nights")
    return (
        f"<h2>What came</h2>\n{_table(head, rows)}"
        f"<p>{read} has {facts.table_rows:,} rows.</p>\n{_folders(facts)}"
    )


def _folders(facts: Facts) -> str:
    folders = facts.folders
    if not folders:
        return ""
    rows = [(text_of(folder), f"{count:,}") for folder, count in folders[:_FOLDERS]]
    more = len(folders) - _FOLDERS
    rest = f"<p>and {more:,} more folders</p>\n" if more > 0 else ""
    return _table(("folder or container", "rows added"), rows) + rest


def _failures(facts: Facts) -> str:
    if not facts.failures:
        return "<h2>Failures</h2>\n<p>No image failed.</p>\n"
    rows = []
    for kind, count in facts.kinds.items():
        usual = facts.usual_failures(kind)
        own = [failure for failure in facts.failures if failure.kind == kind][:_NAMES]
        names = "<br>".join(text_of(f"{failure.uri}: {failure.message}") for failure in own)
        rows.append((text_of(kind), f"{count:,}", "" if usual is None else f"{usual:,.0f}", names))
    head = ("kind", "images", "median of 7 nights", f"the first {_NAMES}")
    return f"<h2>Failures</h2>\n{_table(head, rows)}"


def _time(facts: Facts) -> str:
    seconds = facts.tonight.counts.seconds
    total = sum(seconds.values())
    if not total:
        return ""
    rows = [
        (
            text_of(stage),
            f"{taken:,.1f} s",
            f"{taken / total:.0%}",
            bar(f"share of {stage}", taken / total),
        )
        for stage, taken in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    verdict = text_of(facts.tonight.counts.verdict)
    return (
        f"<h2>Time of the workers</h2>\n{_table(('stage', 'time', 'share', ''), rows)}"
        f"<p>{verdict}</p>\n"
    )


def _pictures(pictures: Pictures) -> Iterator[str]:
    if pictures.groups:
        yield (
            "<p><small>This page shows images: whoever reads it sees them. The option "
            "--no-pictures leaves them out.</small></p>\n"
        )
    for title, shown in pictures.groups.items():
        yield f"<h2>{text_of(title)}</h2>\n<ol>\n{''.join(map(_figure, shown))}</ol>\n"


def _figure(shown: Shown) -> str:
    name = text_of(shown.uri.rsplit("/", 1)[-1])
    if isinstance(shown.picture, bytes):
        data = base64.b64encode(shown.picture).decode()
        picture = f'<img alt="{text_of(shown.uri)}" src="data:image/jpeg;base64,{data}">'
    else:
        picture = f"<p>no picture: {text_of(shown.picture.message)}</p>"
    note = f"<b>{text_of(shown.note)}</b><br>" if shown.note else ""
    return (
        f'<li><figure title="{text_of(shown.uri)}">{picture}<figcaption>{note}{name}</figcaption>'
        "</figure></li>\n"
    )


def _labels(facts: Facts) -> str:
    tonight = Counter(label for label in facts.rows["label"].to_pylist() if label)
    if not tonight:
        return ""
    new, every = sum(tonight.values()), max(sum(facts.labels.values()), 1)
    rows = []
    for label, count in tonight.most_common(_LABELS):
        share, usual = count / new, facts.labels.get(label, 0) / every
        drawn = bar(f"{label}: tonight, and a mark for the whole table", share, other=usual)
        rows.append((text_of(label), f"{count:,}", f"{share:.1%}", f"{usual:.1%}", drawn))
    head = ("label", "rows added", "share", "of the table", "")
    return f"<h2>Labels</h2>\n{_table(head, rows)}"


def _vectors(content: Content) -> str:
    vectors = content.tonight.vectors
    if not len(vectors):
        return ""
    lengths = np.linalg.norm(vectors, axis=1)
    zeros = int((lengths == 0).sum())
    drawn = histogram("lengths of the vectors", lengths)
    said = f"<p>Lengths of {len(vectors):,} new vectors; {zeros:,} are zero.</p>\n"
    return f"<h2>Vectors</h2>\n{said}{drawn}\n{_drift(content)}"


def _drift(content: Content) -> str:
    drift, earlier = content.drift, content.earlier
    if drift is None or earlier is None:
        return "<p>There are too few earlier or new images to compare them.</p>\n"
    rows = [
        ("unlike any earlier image (novelty)", f"{drift.novelty:.1%}", f"{NOVELTY:.0%}"),
        ("numbers of the vector that differ", f"{drift.components:.1%}", f"{COMPONENTS:.0%}"),
        ("new told from earlier (separability)", f"{drift.separability:.3f}", f"{SEPARABILITY}"),
    ]
    table = _table(("against earlier images", "tonight", "unusual above"), rows)
    return f"{table}{_map(earlier, content.tonight)}"


def _map(earlier: Sample, tonight: Sample) -> str:
    """Draw both samples in the two main directions of the earlier one."""
    mean = earlier.vectors.mean(axis=0)
    centred = earlier.vectors - mean
    plane = main_directions(centred, 2)
    # A few thousand dots are a cloud, and take 100 KB.
    old, new = centred[:1500] @ plane, (tonight.vectors[:1500] - mean) @ plane
    drawn = scatter("earlier images in grey, new ones in colour", old, new)
    return (
        f"<p>Earlier images in grey, new ones in colour, by their two main directions.</p>{drawn}\n"
    )


def _recipe(facts: Facts) -> str:
    fields = sorted(facts.tonight.run.recipe.items())
    rows = [(text_of(name), text_of(str(value))) for name, value in fields]
    return f"<h2>Recipe</h2>\n{_table(('field', 'value'), rows)}"
