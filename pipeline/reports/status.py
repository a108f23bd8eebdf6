"""How far the newest run is, from what lies in the output alone: the same for every runner, and from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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

WINDOW = timedelta(minutes=15)  # the rate is that of the last while: a run may have lain still for a day


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that is done, and when its receipt was written."""

    receipt: Receipt
    at: datetime  # UTC, by the storage's clock


def status(output: str, stores: Stores = ()) -> str:
    """State of the newest run; of one that is not finished also shards, images, rate, failures and the time left.

    Raises ``UserError`` when there is no run.
    """
    storage = open_storage(output, stores)
    run = next(iter(load_runs(storage, most=1)), None)
    if run is None:
        raise UserError(f"nothing in {output}: no run has got as far as a plan there")
    if run.state != "planned":
        counts = Summary.of(run.summary) if run.summary else run.counts
        return f"run {run.run_id}: {run.state}\n{counts}"
    return "\n".join(_progress(run, done_shards(run, storage), datetime.now(UTC), output))


def done_shards(run: Run, output: Storage) -> list[Done]:
    """What the run's receipts say, in the order in which they were written."""
    times = {entry.key.rsplit("/", 1)[-1]: entry.modified for entry in output.list(f"{run.folder}/receipts/")}
    done = [Done(receipt, times.get(f"{receipt.shard}.json") or datetime.now(UTC)) for receipt in run.receipts(output)]
    return sorted(done, key=lambda shard: shard.at)


def rate(done: Sequence[Done], started: datetime, now: datetime) -> float:
    """Images a second over the last ``WINDOW``, or since the start if that is nearer; 0 when nothing was done then."""
    since = max(started, now - WINDOW)
    images = sum(shard.receipt.references for shard in done if shard.at > since)
    return images / max((now - since).total_seconds(), 1.0)


def _progress(run: Run, done: Sequence[Done], now: datetime, output: str) -> list[str]:
    started = datetime.fromisoformat(run.started_at)
    images = sum(shard.receipt.references for shard in done)
    kinds = Counter(failure.kind for shard in done for failure in shard.receipt.failures)
    lines = [
        f"run {run.run_id}: planned {_when(started, now)}",
        str(run.counts),
        f"{len(done):,} / {len(run.shards):,} shards, "
        f"{progress_text(images, run.references, kinds.total(), rate(done, started, now))}",
    ]
    if run.job:
        lines.append(f"job {run.job}")
    if kinds:
        lines.append("failed: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    if len(done) == len(run.shards):
        lines.append(f"all shards are done: 'image-features publish {output}', or the same command again, publishes")
    else:
        lines.append(f"last receipt {_when(done[-1].at, now)}" if done else "no receipt yet")
    return lines


def _when(moment: datetime, now: datetime) -> str:
    ago = max((now - moment).total_seconds(), 0.0)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {time_text(ago)} ago"
