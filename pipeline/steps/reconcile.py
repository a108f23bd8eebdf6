"""Receipts to counts: every image is there once, and not too many failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.tables import Table
from transforms.errors import FailureKind, Refused
from transforms.parts.write import Receipt
from transforms.storage import Storage


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A run whose shards are all done, and whose counts balance."""

    run: Run
    receipts: Sequence[Receipt]
    counts: Summary


def reconcile_run(run: Run, output: Storage) -> Reconciled:
    """Read the receipts of a run and add them up.

    Raises:
        Refused: An image is missing or counted twice.
    """
    receipts = run.receipts(output)
    return Reconciled(run, receipts, reconcile(run, receipts))


def reconcile(run: Run, receipts: Sequence[Receipt]) -> Summary:
    """Add the receipts up. Raises ``Refused`` when an image is missing or counted twice."""
    done = Counter(receipt.shard for receipt in receipts)
    missing = [shard for shard in run.shards if done[shard] != 1]
    if missing:
        raise Refused(
            f"{len(missing)} of {len(run.shards)} shards have no receipt ({missing[0]} is the "
            "first); nothing was published. Run the same command again: it does what is missing."
        )
    kinds = Counter(failure.kind for receipt in receipts for failure in receipt.failures)
    seconds: Counter[str] = Counter()
    for receipt in receipts:
        seconds.update(receipt.seconds)
    reused = sum(receipt.reused for receipt in receipts)
    summary = replace(
        run.counts,
        todo=0,
        embedded=sum(receipt.rows for receipt in receipts) - reused,
        reused=reused,
        failed=kinds.total(),
        failures_by_kind=dict(kinds.most_common()),
        bytes_read=sum(receipt.bytes_read for receipt in receipts),
        bytes_written=sum(receipt.part.size for receipt in receipts if receipt.part),
        seconds=dict(seconds),
    )
    off = [r.shard for r in receipts if r.rows + len(r.failures) != r.references]
    if off or not summary.balanced:
        where = f"; shard {off[0]} does not add up" if off else ""
        raise Refused(
            f"the counts do not balance: {summary}{where}. Nothing was published; this is a bug to "
            "report."
        )
    return summary


def check_failure_rate(run: Run, summary: Summary, again: Counter[str], allowed: float) -> None:
    """Refuse a run in which too many of the images that were tried failed, ``again`` (by kind) left aside.

    Where the cause lies in the images themselves, too many of all that are listed: a quiet night of
    three new images, one of them broken, is no reason to stop, night after night. Nor is one that
    nobody mends and that is all there is.
    """
    failures = Counter(summary.failures_by_kind) - again
    failed, references = failures.total(), run.references - again.total()
    passing = sum(failures[kind.word] for kind in FailureKind if kind.transient)
    tried, listed = allowed * references, allowed * summary.listed
    if failed > tried and (passing > tried or failed > listed):
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in failures.most_common())
        more = f", and {again.total():,} as before" if again else ""
        raise Refused(
            f"{failed:,} of {references:,} images failed ({kinds}){more}, more than "
            f"--max-failure-rate {allowed:g} allows; nothing was published. Fix the cause, or "
            "allow more, and run the same command again."
        )


def failed_again(run: Run, receipts: Sequence[Receipt], errors: Table) -> Counter[str]:
    """The run's failures of images that the errors table has already, by kind: they were let pass once."""
    failures = (
        [] if run.rebuild else [failure for receipt in receipts for failure in receipt.failures]
    )
    known = set(errors.read(["uri"])["uri"].to_pylist()) if failures else set()
    return Counter(failure.kind for failure in failures if failure.uri in known)
