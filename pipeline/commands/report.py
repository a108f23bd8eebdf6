"""Print the summary and the next step of ``extract``, ``plan`` and ``publish``."""

from __future__ import annotations

import sys

from pipeline.commands.base import say
from pipeline.state.summary import Summary
from transforms.names import printable


def report(summary: Summary, output: str, metrics_json: str | None) -> None:
    """Print a run's summary and the next step.

    Args:
        summary: Summary of the run.
        output: Folder or URL of the tables.
        metrics_json: File of the metrics. With ``-`` standard output holds nothing else, and the
            summary goes to standard error.
    """
    # A step that found nothing to do has no counts.
    lines = [str(summary)] if summary.listed else []
    if summary.failures_by_kind:
        kinds = (f"{kind} {count:,}" for kind, count in summary.failures_by_kind.items())
        lines.append("failed: " + ", ".join(kinds))
    if summary.still_failed:
        lines.append(
            f"{summary.still_failed:,} still failed: the images have not changed (--retry-failed "
            "tries again)"
        )
    if summary.verdict:
        lines.append(f"time: {summary.verdict}")
    lines.append(_next_step(summary, output.rstrip("/")))
    say("\n".join(map(printable, lines)), sys.stderr if metrics_json == "-" else sys.stdout)


def _next_step(summary: Summary, place: str) -> str:
    """Say what happened, and which command is next."""
    return {
        "published": f"published version {summary.version} of {place}/features",
        "dry_run": "dry run: nothing was written",
        "planned": f"planned run {summary.run_id}; next: 'image-features extract --planned', with "
        "the same options",
        "submitted": f"at work: 'image-features status {place}' says how far; then "
        f"'image-features publish {place}', or the same command again, publishes",
        "extracted": f"all shards are done; next: 'image-features publish {place}'",
    }.get(summary.state, "nothing new: nothing was published")
