"""Publish: receipts → checked counts → one commit a table. Nothing is visible before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from pipeline.runs import Run
from pipeline.summary import Summary
from pipeline.tables import Commit, Table
from transforms.errors import Refused
from transforms.extract import read_shard_table
from transforms.recipe import recipe_id
from transforms.records import ERRORS_SCHEMA, features_schema
from transforms.storage import Storage
from transforms.write import Part, Receipt, write_part

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    summary = Summary(
        run_id=run.run_id,
        listed=run.listed,
        embedded=sum(receipt.rows for receipt in receipts),
        unchanged=run.unchanged,
        failed=run.still_failed + kinds.total(),
        still_failed=run.still_failed,
        ignored=run.ignored,
        failures_by_kind=dict(kinds.most_common()),
        seconds=dict(seconds),
    )
    off = [r.shard for r in receipts if r.rows + len(r.failures) != r.references]
    if off or not summary.balanced:
        where = f"; shard {off[0]} does not add up" if off else ""
        raise Refused(f"the counts do not balance: {summary}{where}. Nothing was published; this is a bug to report.")
    return summary


def check_failure_rate(run: Run, summary: Summary, allowed: float) -> None:
    """Refuse a run in which too many of the images that were tried failed."""
    failed = sum(summary.failures_by_kind.values())
    if failed > allowed * run.references:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in summary.failures_by_kind.items())
        raise Refused(
            f"{failed:,} of {run.references:,} images failed ({kinds}), more than --max-failure-rate {allowed:g} "
            "allows; nothing was published. Mend the cause, or allow more, and run the same command again."
        )


def publish(run: Run, receipts: Sequence[Receipt], output: Storage, features: Table, errors: Table) -> int:
    """Commit the run's parts to both tables; returns the new version of the features table.

    Rows that the run replaces (of changed images, of images that had failed) leave in the same commits.
    Called again after a crash, it does what is missing.
    """
    parts = [receipt.part for receipt in receipts if receipt.part]
    _check_parts(parts, output)
    todo = pa.concat_tables([read_shard_table(output, f"{run.folder}/plan/{shard}.parquet") for shard in run.shards])
    uris = todo["uri"].combine_chunks()
    if not errors.has_run(run.run_id):
        _commit_errors(run, receipts, output, errors, uris)
    if features.has_run(run.run_id):
        return features.version or 0
    new, old = _without(features, uris, run) if run.changed else ([], [])
    schema = features_schema(dimension=1)  # any will do: Delta's own schema has lists without a length
    return features.commit(Commit(run.run_id, schema, [*parts, *new], old, replace_all=run.rebuild))


def _without(table: Table, uris: pa.Array, run: Run) -> tuple[list[Part], list[str]]:
    if run.rebuild:
        return [], []
    return table.rewrite_without(uris, run.run_id, run.recipe)


def _check_parts(parts: Sequence[Part], output: Storage) -> None:
    sizes = {entry.key.rsplit("/", 1)[-1]: entry.size for entry in output.list("features/")}
    for part in parts:
        if sizes.get(part.path) != part.size:
            raise Refused(
                f"part features/{part.path} has {sizes.get(part.path, 'no')} bytes, and its receipt says "
                f"{part.size}; nothing was published. Was the output changed by hand?"
            )


def _commit_errors(run: Run, receipts: Sequence[Receipt], output: Storage, errors: Table, uris: pa.Array) -> None:
    known = errors.read(["uri"])
    replaced = bool(pa.compute.any(pa.compute.is_in(known["uri"], value_set=uris)).as_py()) and not run.rebuild
    table = failure_rows(run, receipts, errors)
    if not table.num_rows and not replaced and not run.rebuild and errors.version is not None:
        return
    parts = [write_part(output, table, "errors", f"part-{run.run_id}", run.recipe)] if table.num_rows else []
    new, old = _without(errors, uris, run) if replaced else ([], [])
    errors.commit(Commit(run.run_id, ERRORS_SCHEMA, [*parts, *new], old, replace_all=run.rebuild))


def failure_rows(run: Run, receipts: Sequence[Receipt], errors: Table) -> pa.Table:
    """The run's failures as rows; an image that failed before keeps its first date and counts on."""
    failures = [failure for receipt in receipts for failure in receipt.failures]
    earlier: dict[str, tuple[int, datetime]] = {}
    if failures and errors.version is not None:
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
