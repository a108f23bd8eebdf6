"""Publish: receipts → checked counts → one commit a table. Nothing is visible before."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from pipeline.maintenance.announce import bringing
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.steps.plan import read_stale
from pipeline.tables import Tables
from pipeline.tables.table import Commit, Table
from transforms.errors import Damaged, FailureKind, Refused
from transforms.parts.write import Part, Receipt, write_part
from transforms.recipe import recipe_id
from transforms.records import ERRORS_SCHEMA
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)


def reconcile(run: Run, receipts: Sequence[Receipt]) -> Summary:
    """Add the receipts up. Raises ``Refused`` when an image is missing or counted twice."""
    done = Counter(receipt.shard for receipt in receipts)
    missing = [shard for shard in run.shards if done[shard] != 1]
    if missing:
        raise Refused(
            f"{len(missing)} of {len(run.shards)} shards have no receipt ({missing[0]} is the first); nothing was "
            "published. Run the same command again: it does what is missing."
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
        raise Refused(f"the counts do not balance: {summary}{where}. Nothing was published; this is a bug to report.")
    return summary


def check_failure_rate(run: Run, summary: Summary, again: Counter[str], allowed: float) -> None:
    """Refuse a run in which too many of the images that were tried failed, ``again`` (by kind) left aside.

    Where the cause lies in the images themselves, too many of all that are listed: a quiet night of three new images,
    one of them broken, is no reason to stop, night after night. Nor is one that nobody mends and that is all there is.
    """
    failures = Counter(summary.failures_by_kind) - again
    failed, references = failures.total(), run.references - again.total()
    passing = sum(failures[kind.word] for kind in FailureKind if kind.transient)
    tried, listed = allowed * references, allowed * summary.listed
    if failed > tried and (passing > tried or failed > listed):
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in failures.most_common())
        more = f", and {again.total():,} as before" if again else ""
        raise Refused(
            f"{failed:,} of {references:,} images failed ({kinds}){more}, more than --max-failure-rate {allowed:g} "
            "allows; nothing was published. Mend the cause, or allow more, and run the same command again."
        )


def failed_again(run: Run, receipts: Sequence[Receipt], errors: Table) -> Counter[str]:
    """The run's failures of images that the errors table has already, by kind: they were let pass once."""
    failures = [] if run.rebuild else [failure for receipt in receipts for failure in receipt.failures]
    known = set(errors.read(["uri"])["uri"].to_pylist()) if failures else set()
    return Counter(failure.kind for failure in failures if failure.uri in known)


def forget_lost_parts(run: Run, output: Storage) -> list[Receipt]:
    """The run's receipts; those whose part has gone since are deleted, so that their shards are done again."""
    receipts = run.receipts(output)
    sizes = _sizes_of_parts(output) if receipts else {}
    for receipt in receipts:
        if _is_lost(receipt.part, sizes):
            _LOG.warning("the part of %s is not there any more; it is done again", receipt.shard)
            run.forget(receipt, output)
    return [receipt for receipt in receipts if not _is_lost(receipt.part, sizes)]


def publish(run: Run, summary: Summary, receipts: Sequence[Receipt], output: Storage, tables: Tables) -> int:
    """Commit the run's parts to both tables, features and errors; returns the new version of the features table.

    Stale rows leave in the same commits. Errors come first, even if they stay the same: of two runs at once only
    one gets past that commit, so that the tables never hold one's features and the other's errors.
    Called again after a crash, it does what is missing. Raises ``Refused`` when a table would not come to hold
    as many rows as the counts say.
    """
    features, errors = tables.features, tables.errors
    parts = [receipt.part for receipt in receipts if receipt.part]
    _check_parts(parts, output)
    pending: list[tuple[Table, Commit]] = []
    if not errors.has_run(run.run_id):
        rows = failure_rows(run, receipts, errors)
        failures = [write_part(output, rows, "errors", f"part-{run.run_id}", run.recipe)] if rows.num_rows else []
        commit = _commit(run, errors, failures, output)
        _check_rows(errors, commit, summary.still_failed + summary.failed + run.kept["errors"])
        pending.append((errors, commit))
    if not features.has_run(run.run_id):
        commit = _commit(run, features, parts, output)
        _check_rows(features, commit, summary.unchanged + summary.embedded + summary.reused + run.kept["features"])
        pending.append((features, commit))
    for table in {*tables} - {table for table, _ in pending}:
        table.make_durable()
    with bringing(output, [table.key(part.path) for table, commit in pending for part in commit.add]):
        for table, commit in pending:
            table.commit(commit)
    return features.version or 0


def _commit(run: Run, table: Table, parts: Sequence[Part], output: Storage) -> Commit:
    """What the run changes in a table. Writes the rewritten parts; nothing is visible yet."""
    if run.rebuild or not run.stale[table.name]:
        return Commit(run.run_id, parts, replace_all=run.rebuild)
    new, old = table.rewrite_without(read_stale(output, run.folder, table.name), run.run_id, run.recipe)
    return Commit(run.run_id, [*parts, *new], old)


def _check_rows(table: Table, commit: Commit, expected: int) -> None:
    """Refuse a commit after which the table would not hold the images that were counted."""
    left = () if commit.replace_all else table.parts
    stay = sum(part["num_records"] for part in left if part["path"] not in set(commit.remove))
    rows = stay + sum(part.rows for part in commit.add)
    if rows != expected:
        raise Refused(
            f"the {table.name} table would hold {rows:,} rows, and the counts say {expected:,}; nothing was published. "
            "Was the output changed by hand? 'image-features verify' looks for what is wrong."
        )


def _check_parts(parts: Sequence[Part], output: Storage) -> None:
    sizes = _sizes_of_parts(output)
    for part in parts:
        if _is_lost(part, sizes):
            raise Refused(
                f"part features/{part.path} has {sizes.get(part.path, 'no')} bytes, and its receipt says "
                f"{part.size}; nothing was published. Was the output changed by hand? Run the same command again."
            )


def _sizes_of_parts(output: Storage) -> dict[str, int]:
    return {entry.key.rsplit("/", 1)[-1]: entry.size for entry in output.list("features/")}


def _is_lost(part: Part | None, sizes: dict[str, int]) -> bool:
    return part is not None and sizes.get(part.path) != part.size


def failure_rows(run: Run, receipts: Sequence[Receipt], errors: Table) -> pa.Table:
    """The run's failures as rows; an image that failed before keeps its first date and counts on."""
    failures = [failure for receipt in receipts for failure in receipt.failures]
    earlier: dict[str, tuple[int, datetime]] = {}
    if failures and errors.version is not None:
        with suppress(Damaged) if run.rebuild else nullcontext():  # what is replaced need not be readable
            rows = errors.read(["uri", "attempts", "first_failed_at"]).to_pylist()
            earlier = {row["uri"]: (row["attempts"], row["first_failed_at"]) for row in rows}
    started = datetime.fromisoformat(run.started_at)
    rows = []
    for failure in failures:
        attempts, first = earlier.get(failure.uri, (0, started))
        rows.append(
            {
                "uri": failure.uri,
                "etag": failure.etag,
                "size": failure.size,
                "modified": failure.modified,
                "stage": failure.stage,
                "kind": failure.kind,
                "message": failure.message,
                "attempts": attempts + 1,
                "first_failed_at": first,
                "recipe": recipe_id(run.recipe),
                "run_id": run.run_id,
            }
        )
    return pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA)
