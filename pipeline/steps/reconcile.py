"""Reconcile receipts and counts: each image is there once, and not too many failed."""

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

    Args:
        run: A run.
        output: The output.

    Raises:
        Refused: An image is missing or counted twice.
    """
    receipts = run.receipts(output)
    return Reconciled(run, receipts, reconcile(run, receipts))


def reconcile(run: Run, receipts: Sequence[Receipt]) -> Summary:
    """Add up the receipts of a run.

    Raises:
        Refused: An image is missing or counted twice.
    """
    done = Counter(receipt.shard for receipt in receipts)
    missing = [shard for shard in run.shards if done[shard] != 1]
    if missing:
        raise Refused(
            f"{len(missing)} of {len(run.shards)} shards have no receipt ({missing[0]} is the "
            "first); nothing was published. Run the same command again: it does the missing shards."
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
    """Refuse a run in which too many of the images that were tried failed.

    Where the images themselves are the cause, too many of all listed images must have failed. A
    quiet night of three new images, one of them broken, is no reason to stop, night after night.
    Nor is a broken image that nobody fixes, when nothing else is to do.

    Args:
        run: The run.
        summary: Its reconciled counts.
        again: Failures of images that had failed before, by kind; they do not count.
        allowed: The maximum share of failed images, 0 to 1.

    Raises:
        Refused: More images failed than is allowed.
    """
    failures = Counter(summary.failures_by_kind) - again
    failed, references = failures.total(), run.references - again.total()
    transient = sum(failures[kind.word] for kind in FailureKind if kind.transient)
    max_of_tried, max_of_listed = allowed * references, allowed * summary.listed
    if failed > max_of_tried and (transient > max_of_tried or failed > max_of_listed):
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in failures.most_common())
        more = f", and {again.total():,} as before" if again else ""
        first = "features: " if run.others else ""
        table = f"features-{run.table}: " if run.table else first
        raise Refused(
            f"{table}{failed:,} of {references:,} images failed ({kinds}){more}, more than "
            f"--max-failure-rate {allowed:g} allows; nothing was published. Fix the cause, or "
            "allow more, and run the same command again."
        )


def failed_again(run: Run, receipts: Sequence[Receipt], errors: Table) -> Counter[str]:
    """Count a run's failures of images that are in the errors table already.

    An earlier run was published with these failures.

    Args:
        run: The run.
        receipts: Its receipts.
        errors: The errors table.

    Returns:
        The number of failures by kind.
    """
    failures = (
        [] if run.rebuild else [failure for receipt in receipts for failure in receipt.failures]
    )
    known = set(errors.read(["uri"])["uri"].to_pylist()) if failures else set()
    return Counter(failure.kind for failure in failures if failure.uri in known)
