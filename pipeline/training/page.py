"""Write the report of a training as one page: figures, curves and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.reports.html import html_page, text_of
from pipeline.training.charts import confusion_matrix, curves
from pipeline.training.metrics import Evaluation

_STYLE = """\
body { max-width: 70rem }
pre, td, th { overflow-wrap: anywhere; white-space: pre-wrap }
td, th { padding: 0.1rem 1rem 0.1rem 0; text-align: left }
svg { max-width: 100%; height: auto }
"""
# A larger matrix cannot be read.
_SHOWN = 30


def page(
    title: str,
    lines: Sequence[str],
    history: Sequence[Mapping[str, float]],
    evaluation: Evaluation,
    classes: Sequence[str],
) -> str:
    """Return the report as HTML.

    Args:
        title: Its title.
        lines: The figures, as they are printed.
        history: One mapping for each epoch.
        evaluation: Of the rows of the test.
        classes: The labels.
    """

    def drawn(word: str) -> str:
        series = {
            name: [line[key] for line in history if key in line]
            for name, key in (("training", word), ("validation", f"val_{word}"))
        }
        return curves(word, series)

    figures = "\n".join(map(text_of, lines))
    parts = [
        f"<pre>{figures}</pre>\n",
        f"<h2>Loss and accuracy</h2>\n{drawn('loss')}{drawn('accuracy')}",
        _matrix(evaluation, classes),
        _classes(evaluation, classes),
    ]
    return html_page(title, _STYLE, parts)


def _matrix(evaluation: Evaluation, classes: Sequence[str]) -> str:
    if evaluation.confusion is None or not evaluation.rows:
        return ""
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    mistakes = wrong.sum(0) + wrong.sum(1)
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[:_SHOWN])
    counts = evaluation.confusion[np.ix_(chosen, chosen)].tolist()
    note = ""
    if len(classes) > _SHOWN:
        note = f"<p>The {_SHOWN} of {len(classes):,} labels with the most mistakes.</p>\n"
    return (
        "<h2>Confusion matrix of the test</h2>\n"
        f"<p>Down: the true label. Across: what the head says.</p>\n{note}"
        f"{confusion_matrix(counts, [classes[i] for i in chosen])}"
    )


def _classes(evaluation: Evaluation, classes: Sequence[str]) -> str:
    """Return a table of the labels, the worst first."""
    f1 = evaluation.f1
    order = sorted(range(len(classes)), key=lambda i: (np.isnan(f1[i]), f1[i], classes[i]))
    rows = "".join(
        f"<tr><td>{text_of(classes[i])}</td><td>{evaluation.true[i]:,}</td>"
        f"<td>{'-' if np.isnan(f1[i]) else f'{f1[i]:.3f}'}</td></tr>\n"
        for i in order[:1000]
    )
    return (
        "<h2>Labels, the worst first</h2>\n<table>\n<tr><th>label</th><th>rows of the test</th>"
        f"<th>F1</th></tr>\n{rows}</table>\n"
    )
