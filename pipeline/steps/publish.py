"""Publish a run: commit its parts and failures, one commit for each table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from pipeline.maintenance.announce import announce_commit
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.steps.changes import read_stale
from pipeline.steps.receipts import is_lost
from pipeline.steps.reconcile import Reconciled, check_failure_rate, failed_again
from pipeline.tables import Tables
from pipeline.tables.commit import Commit
from pipeline.tables.table import Table
from transforms.carried_types import to_arrow
from transforms.errors import Damaged, Refused
from transforms.parts.write import Part, Receipt, write_part
from transforms.recipe import recipe_id
from transforms.records import ERRORS_SCHEMA
from transforms.storage import Storage


@dataclass(frozen=True, slots=True)
class Published:
    """A run that readers see."""

    counts: Summary


def check_failures(night: Sequence[tuple[Reconciled, Tables]], output: Storage) -> None:
    """Check that not too many images failed, for all backbones before any is published.

    Args:
        night: The runs that are to be published, each with its tables.
        output: The output.

    Raises:
        Refused: Too many images failed, for one of them. All are noted as refused.
    """
    try:
        for reconciled, tables in night:
            again = failed_again(reconciled.run, reconciled.receipts, tables.errors)
            run = reconciled.run
            check_failure_rate(run, reconciled.counts, again, run.max_failure_rate)
    except Refused:
        for reconciled, _ in reversed(night):
            reconciled.run.end(output, "refused", reconciled.counts)
        raise


def publish(reconciled: Reconciled, output: Storage, tables: Tables) -> Published:
    """Commit a run and note its end; a run that changes nothing is noted as unchanged.

    A call after a crash makes only the commits that are missing.

    Args:
        reconciled: The run, its receipts and its balanced counts.
        output: The output.
        tables: The tables of the run.

    Raises:
        Refused: A table would not hold as many rows as the counts say, or another writer was
            faster.
        RunFailed: The storage did not take the commit.
    """
    run, counts = reconciled.run, reconciled.counts
    if run.nothing_to_do:
        run.end(output, "unchanged", counts)
        return Published(replace(counts, state="unchanged"))
    version = _commit_both(reconciled, output, tables)
    counts = replace(counts, state="published", version=version)
    run.end(output, "published", counts)
    return Published(counts)


def _commit_both(reconciled: Reconciled, output: Storage, tables: Tables) -> int:
    """Commit the parts and the failures; return the new version of the features table.

    The same commits remove the stale rows. The errors table comes first, even if it stays the same:
    of two concurrent runs only one gets past that commit, so the tables never hold the features of
    one and the errors of the other.
    """
    run, counts, receipts = reconciled.run, reconciled.counts, reconciled.receipts
    features, errors = tables.features, tables.errors
    parts = [receipt.part for receipt in receipts if receipt.part]
    _check_parts(parts, features)
    pending: list[tuple[Table, Commit]] = []
    if not errors.has_run(run.run_id):
        commit = _commit(run, errors, _write_failures(run, receipts, output, errors), output)
        _check_rows(errors, commit, counts.still_failed + counts.failed + run.kept["errors"])
        pending.append((errors, commit))
    if not features.has_run(run.run_id):
        commit = _commit(run, features, parts, output)
        with_vector = counts.unchanged + counts.embedded + counts.reused
        _check_rows(features, commit, with_vector + run.kept["features"])
        pending.append((features, commit))
    for table in {*tables} - {table for table, _ in pending}:
        table.complete(run.run_id, _source(run, table))
    added = [table.key(part.path) for table, commit in pending for part in commit.add]
    with announce_commit(output, added):
        for table, commit in pending:
            table.commit(commit)
    return features.version or 0


def _write_failures(
    run: Run, receipts: Sequence[Receipt], output: Storage, errors: Table
) -> list[Part]:
    """Write the failures of a run as one part; no part without failures."""
    rows = failure_rows(run, receipts, errors)
    if not rows.num_rows:
        return []
    return [write_part(output, rows, errors.name, f"part-{run.run_id}", run.recipe)]


def _commit(run: Run, table: Table, parts: Sequence[Part], output: Storage) -> Commit:
    """Return the run's commit to a table; write the rewritten parts, which are not visible yet."""
    source = _source(run, table)
    if run.rebuild or not run.stale[table.kind]:
        return Commit(run.run_id, parts, replace_all=run.rebuild, source=source)
    new, old = table.rewrite_without(
        read_stale(output, run.folder, table.kind), run.run_id, run.recipe
    )
    return Commit(run.run_id, [*parts, *new], old, source=source)


def _source(run: Run, table: Table) -> pa.DataType | None:
    return to_arrow(run.carried) if table.kind == "features" else None


def _check_rows(table: Table, commit: Commit, expected: int) -> None:
    """Refuse a commit after which the table's row count would differ from the run's counts."""
    left = () if commit.replace_all else table.parts
    stay = sum(part["num_records"] for part in left if part["path"] not in set(commit.remove))
    rows = stay + sum(part.rows for part in commit.add)
    if rows != expected:
        raise Refused(
            f"the {table.name} table would hold {rows:,} rows, and the counts say {expected:,}; "
            "nothing was published. Was the output changed by hand? 'image-features verify' looks "
            "for what is wrong."
        )


def _check_parts(parts: Sequence[Part], features: Table) -> None:
    sizes = features.sizes()
    for part in parts:
        if is_lost(part, sizes):
            raise Refused(
                f"part {features.key(part.path)} has {sizes.get(part.path, 'no')} bytes, and its "
                f"receipt says {part.size}; nothing was published. Was the output changed by hand? "
                "Run the same command again."
            )


def failure_rows(run: Run, receipts: Sequence[Receipt], errors: Table) -> pa.Table:
    """Return the run's failures as rows of the errors table.

    An image that failed before keeps its first date, and its attempts go on counting.

    Args:
        run: The run.
        receipts: Its receipts.
        errors: The errors table.

    Returns:
        A table of ``ERRORS_SCHEMA``.

    Raises:
        Damaged: The errors table cannot be read, and the run does not replace it.
    """
    failures = [failure for receipt in receipts for failure in receipt.failures]
    earlier: dict[str, tuple[int, datetime]] = {}
    if failures and errors.version is not None:
        # A table that is replaced need not be readable.
        with suppress(Damaged) if run.rebuild else nullcontext():
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
