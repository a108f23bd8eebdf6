"""Print the summary and the next step of ``extract``, ``plan`` and ``publish``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline.commands.base import say
from pipeline.state.summary import Summary
from transforms.names import printable


def report(summaries: Sequence[Summary], output: str, metrics_json: str | None) -> None:
    """Print a run's summary and the next step; of several backbones one line for each.

    Args:
        summaries: Summary of the run, for each backbone.
        output: Folder or URL of the tables.
        metrics_json: File of the metrics. With ``-`` standard output holds nothing else, and the
            summary goes to standard error.
    """
    place = output.rstrip("/")
    if len(summaries) == 1:
        lines = _lines(summaries[0], place)
    else:
        lines = [_line(summary, place) for summary in summaries]
        lines += dict.fromkeys(
            _next_step(summary, place)
            for summary in summaries
            if summary.state not in ("published", "unchanged")
        )
    say("\n".join(map(printable, lines)), sys.stderr if metrics_json == "-" else sys.stdout)


def _line(summary: Summary, place: str) -> str:
    """Return the summary of one of several backbones."""
    parts = [str(summary)] if summary.listed else []
    if summary.failures_by_kind:
        parts.append(_failed(summary))
    if summary.verdict:
        parts.append(f"time: {summary.verdict}")
    if summary.state in ("published", "unchanged"):
        parts.append(_next_step(summary, place))
    return f"{_features(summary)}: {'; '.join(parts)}"


def _features(summary: Summary) -> str:
    return f"features-{summary.table}" if summary.table else "features"


def _failed(summary: Summary) -> str:
    kinds = (f"{kind} {count:,}" for kind, count in summary.failures_by_kind.items())
    return "failed: " + ", ".join(kinds)


def _lines(summary: Summary, place: str) -> list[str]:
    """Return the summary of the only backbone, and the next step."""
    # A step that found nothing to do has no counts.
    lines = [str(summary)] if summary.listed else []
    if summary.failures_by_kind:
        lines.append(_failed(summary))
    if summary.still_failed:
        lines.append(
            f"{summary.still_failed:,} still failed: the images have not changed (--retry-failed "
            "tries again)"
        )
    if summary.verdict:
        lines.append(f"time: {summary.verdict}")
    return [*lines, _next_step(summary, place)]


def _next_step(summary: Summary, place: str) -> str:
    """Say what happened, and which command is next."""
    if summary.state == "unchanged" and summary.relabelled:
        return f"published new labels of {summary.relabelled:,} rows; no image is new"
    return {
        "published": f"published version {summary.version} of {place}/{_features(summary)}",
        "dry_run": "dry run: nothing was written",
        "planned": f"planned run {summary.run_id}; next: 'image-features extract --planned', with "
        "the same options",
        "submitted": f"at work: 'image-features status {place}' says how far; then "
        f"'image-features publish {place}', or the same command again, publishes",
        "extracted": f"all shards are done; next: 'image-features publish {place}'",
    }.get(summary.state, "nothing new: nothing was published")
