"""Tell how far the newest run is, from the output alone: for every runner, from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from os import PathLike, fspath

from pipeline.reports.beside import lines_beside
from pipeline.reports.progress import progress_text
from pipeline.reports.text import bar_text, time_text
from pipeline.state.night import night_of
from pipeline.state.run import Run, latest_run
from pipeline.state.summary import Summary
from pipeline.tables import Tables
from transforms.errors import UserError
from transforms.parts.write import Receipt
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

# The rate is that of the last 15 minutes: a run may have rested for a day before.
WINDOW = timedelta(minutes=15)


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
    # In the order of time; empty for a finished run.
    done: tuple[Done, ...]
    at: datetime  # UTC, when the output was read
    # Of the other backbones of the run.
    others: tuple[Status, ...] = ()
    # A line for the index and one for the near-duplicates, if they are there.
    beside: tuple[str, ...] = ()

    @property
    def at_work(self) -> bool:
        """Whether the run has yet to be published."""
        return self.run.state == "planned"

    @property
    def images(self) -> int:
        """The number of images in the shards that are done."""
        return sum(shard.receipt.references for shard in self.done)

    @property
    def failures(self) -> Mapping[str, int]:
        """The number of failed images by kind, most frequent first."""
        kinds = Counter(failure.kind for shard in self.done for failure in shard.receipt.failures)
        return dict(kinds.most_common())

    @property
    def rate(self) -> float:
        """Images per second over the last ``WINDOW``."""
        return rate(self.done, self._started, self.at)

    @property
    def _started(self) -> datetime:
        return datetime.fromisoformat(self.run.started_at)

    def __str__(self) -> str:
        if not self.others:
            return "\n".join([self._progress, *self.beside])
        named = [
            line
            for each in (self, *self.others)
            for line in (f"{_features(each.run)}: {each._progress}", *each.beside)
        ]
        return "\n".join(named)

    @property
    def _progress(self) -> str:
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
        if run.references:
            lines.append(bar_text(self.images / run.references, 40))
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


def status(output: str | PathLike[str], stores: Stores = ()) -> Status:
    """Read the newest run, and its receipts if it is not finished.

    Args:
        output: Folder or URL of the tables.
        stores: Where buckets are.

    Raises:
        UserError: There is no run.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    run = latest_run(storage)
    if run is None:
        raise UserError(f"nothing in {output}: no run has got as far as a plan there")
    first, *others = (_status(output, own, storage) for own in night_of(run, storage))
    return replace(first, others=tuple(others))


def _status(output: str, run: Run, storage: Storage) -> Status:
    """Read the receipts of one backbone's run, if it is not finished, and what its table has."""
    done = tuple(done_shards(run, storage)) if run.state == "planned" else ()
    beside = tuple(lines_beside(storage, Tables.open(storage, run.table).features))
    return Status(output, run, done, datetime.now(UTC), beside=beside)


def _features(run: Run) -> str:
    return f"features-{run.table}" if run.table else "features"


def done_shards(run: Run, output: Storage) -> list[Done]:
    """Return the finished shards of a run, in the order in which their receipts were written."""
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
    """Return the images per second over the last ``WINDOW``, or since the start if that is later.

    Args:
        done: The finished shards.
        started: UTC, the start of the run.
        now: UTC, the end of the window.

    Returns:
        Images per second; 0 when no shard was finished in that time.
    """
    since = max(started, now - WINDOW)
    images = sum(shard.receipt.references for shard in done if shard.at > since)
    return images / max((now - since).total_seconds(), 1.0)


def _when(moment: datetime, now: datetime) -> str:
    ago = max((now - moment).total_seconds(), 0.0)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {time_text(ago)} ago"
