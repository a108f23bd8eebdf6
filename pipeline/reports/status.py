"""How far the newest run is, from what lies in the output alone: the same for every runner, and from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.reports.progress import progress_text
from pipeline.reports.text import time_text
from pipeline.state.run import Run, load_runs
from pipeline.state.summary import Summary
from transforms.errors import UserError
from transforms.parts.write import Receipt
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

WINDOW = timedelta(
    minutes=15
    # The rate is that of the last while: a run may have lain still for a day
)


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that is done, and when its receipt was written."""

    receipt: Receipt
    at: datetime  # UTC, by the storage's clock


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is."""

    output: str  # as it was given
    run: Run
    # By time; empty for a run that is not at work
    done: tuple[Done, ...]
    at: datetime  # UTC; when this was looked at

    @property
    def at_work(self) -> bool:
        """Whether the run has yet to be published."""
        return self.run.state == "planned"

    @property
    def images(self) -> int:
        """Images of the shards that are done."""
        return sum(shard.receipt.references for shard in self.done)

    @property
    def failures(self) -> Mapping[str, int]:
        """Images that failed, by kind, most frequent first."""
        kinds = Counter(failure.kind for shard in self.done for failure in shard.receipt.failures)
        return dict(kinds.most_common())

    @property
    def rate(self) -> float:
        """Images a second, of late."""
        return rate(self.done, self._started, self.at)

    @property
    def _started(self) -> datetime:
        return datetime.fromisoformat(self.run.started_at)

    def __str__(self) -> str:
        run = self.run
        if not self.at_work:
            counts = Summary.of(run.summary) if run.summary else run.counts
            return f"run {run.run_id}: {run.state}\n{counts}"
        failures = self.failures
        failed = sum(failures.values())
        progress = progress_text(self.images, run.references, failed, self.rate)
        lines = [
            f"run {run.run_id}: planned {_when(self._started, self.at)}",
            str(run.counts),
            f"{len(self.done):,} / {len(run.shards):,} shards, {progress}",
        ]
        if run.job:
            lines.append(f"job {run.job}")
        if failures:
            counted = (f"{kind} {count:,}" for kind, count in failures.items())
            lines.append("failed: " + ", ".join(counted))
        return "\n".join([*lines, self._last_line()])

    def _last_line(self) -> str:
        if len(self.done) == len(self.run.shards):
            command = f"'image-features publish {self.output}'"
            return f"all shards are done: {command}, or the same command again, publishes"
        if not self.done:
            return "no receipt yet"
        return f"last receipt {_when(self.done[-1].at, self.at)}"


def status(output: str, stores: Stores = ()) -> Status:
    """Look at the newest run; at the receipts too if it is not finished.

    Args:
        output: Folder or URL of the tables.
        stores: Where buckets are.

    Raises:
        UserError: There is no run.
    """
    storage = open_storage(output, stores)
    run = next(iter(load_runs(storage, most=1)), None)
    if run is None:
        raise UserError(f"nothing in {output}: no run has got as far as a plan there")
    done = tuple(done_shards(run, storage)) if run.state == "planned" else ()
    return Status(output, run, done, datetime.now(UTC))


def done_shards(run: Run, output: Storage) -> list[Done]:
    """What the run's receipts say, in the order in which they were written."""
    times = {
        entry.key.rsplit("/", 1)[-1]: entry.modified
        for entry in output.list(f"{run.folder}/receipts/")
    }
    done = [
        Done(receipt, times.get(f"{receipt.shard}.json") or datetime.now(UTC))
        for receipt in run.receipts(output)
    ]
    return sorted(done, key=lambda shard: shard.at)


def rate(done: Sequence[Done], started: datetime, now: datetime) -> float:
    """Images a second over the last ``WINDOW``, or since the start if that is nearer; 0 when nothing was done then."""
    since = max(started, now - WINDOW)
    images = sum(shard.receipt.references for shard in done if shard.at > since)
    return images / max((now - since).total_seconds(), 1.0)


def _when(moment: datetime, now: datetime) -> str:
    ago = max((now - moment).total_seconds(), 0.0)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {time_text(ago)} ago"
