"""Read what a night left behind: notes of runs, receipts, and the rows that it added."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.run import Run, load_run, load_runs
from pipeline.state.summary import Summary
from pipeline.tables import Tables, check_name
from transforms.errors import UserError
from transforms.storage import Storage

# Nights in a sparkline, and nights that are compared with.
NIGHTS, WEEK = 30, 7
COLUMNS = ("uri", "label", "score", "content_sha256", "__filename")


@dataclass(frozen=True, slots=True)
class Night:
    """The counts of one run."""

    run: Run
    counts: Summary

    @property
    def rate(self) -> float | None:
        """Images per second from the start of the run to its end; None if unknown."""
        images = self.counts.embedded + self.counts.reused + self.counts.failed
        if not self.run.ended_at or not images:
            return None
        start, end = (datetime.fromisoformat(at) for at in (self.run.started_at, self.run.ended_at))
        return images / max((end - start).total_seconds(), 0.1)


@dataclass(frozen=True, slots=True)
class Failure:
    """An image of the run that has no vector."""

    uri: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """All that a report says, save for what needs vectors and pictures."""

    output: str
    tonight: Night
    before: Sequence[Night]  # newest first, NIGHTS at the most
    failures: Sequence[Failure]  # sorted by uri
    rows: pa.Table  # COLUMNS of the rows that the run added, as far as they are still there
    # By label: the rows of the whole table.
    labels: Mapping[str, int]
    table_rows: int

    @property
    def kinds(self) -> Mapping[str, int]:
        """Failures by kind, most frequent first."""
        return dict(Counter(failure.kind for failure in self.failures).most_common())

    def usual(self, name: str) -> float | None:
        """Return the median of a count over the last week's nights; None without any."""
        values = [getattr(night.counts, name) for night in self.before[:WEEK]]
        return statistics.median(values) if values else None

    def usual_failures(self, kind: str) -> float | None:
        """Return the median number of failures of a kind over the last week's nights."""
        values = [night.counts.failures_by_kind.get(kind, 0) for night in self.before[:WEEK]]
        return statistics.median(values) if values else None

    @property
    def usual_rate(self) -> float | None:
        """The median of images per second over the last week's nights."""
        rates = [night.rate for night in self.before[:WEEK] if night.rate]
        return statistics.median(rates) if rates else None

    @property
    def folders(self) -> Sequence[tuple[str, int]]:
        """The folders or containers of the new rows, most rows first."""
        counted = Counter(map(_folder, self.rows["uri"].to_pylist()))
        return counted.most_common()


def read_facts(output: Storage, tables: Tables, run_id: str | None) -> Facts:
    """Read what one run left behind.

    Args:
        output: The output.
        tables: The tables of a backbone.
        run_id: The run; None for the newest.

    Raises:
        UserError: There is no such run.
        Damaged: A part cannot be read.
        StorageError: The output cannot be read.
    """
    if tables.name:
        check_name(output, tables.name)
    runs = load_runs(output, 1, tables.name) if run_id is None else []
    run = load_run(output, run_id, tables.name) if run_id else next(iter(runs), None)
    if run is None:
        what = f"no run {run_id}" if run_id else "no run has got as far as a plan"
        raise UserError(f"{output.url}: {what} there; 'image-features show' lists the last ones")
    earlier = [
        Night(own, _counts(own))
        # Some of them were refused. In a bucket each note takes two requests.
        for own in load_runs(output, NIGHTS + 10, tables.name, before=run.run_id)
        if own.state in ("published", "unchanged")
    ]
    features = tables.features
    rows = features.read(COLUMNS, pc.field("run_id") == run.run_id)
    labels = features.read(["label"])["label"].drop_null()
    counted = labels.value_counts().to_pylist() if len(labels) else []
    return Facts(
        output=output.url,
        tonight=Night(run, _counts(run)),
        before=earlier[:NIGHTS],
        failures=_failures(run, tables, output),
        rows=rows,
        labels={entry["values"]: entry["counts"] for entry in counted},
        table_rows=sum(count for _, count in features.row_counts()),
    )


def _counts(run: Run) -> Summary:
    return Summary.of(run.summary) if run.summary else run.counts


def _failures(run: Run, tables: Tables, output: Storage) -> list[Failure]:
    """Return the failures of a run: of its rows, or of its receipts if it was not published."""
    columns = ["uri", "kind", "message", "run_id"]
    if run.state == "published":
        found: list[dict[str, Any]] = tables.errors.read(
            columns, pc.field("run_id") == run.run_id
        ).to_pylist()
        failures = [Failure(row["uri"], row["kind"], row["message"]) for row in found]
    else:
        failures = [
            Failure(failure.uri, failure.kind, failure.message)
            for receipt in run.receipts(output)
            for failure in receipt.failures
        ]
    return sorted(failures, key=lambda failure: failure.uri)


def _folder(uri: str) -> str:
    """Return the container of a member, or the folder of a file."""
    container, found, _ = uri.rpartition("::")
    if found:
        return container
    return uri[: uri.rfind("/")] if "/" in uri else str(PurePosixPath(uri).parent)
