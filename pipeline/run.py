"""One run from beginning to end: resolve the recipe, plan, extract, publish."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.extraction import extract_shards
from pipeline.jobs import Submission
from pipeline.maintenance import compact_if_needed
from pipeline.metrics import Metrics
from pipeline.plan import (
    check_removed,
    counts,
    cut,
    find_changes,
    list_here,
    list_sources,
    nothing_listed,
    write_index,
    write_stale,
)
from pipeline.progress import Progress
from pipeline.publish import check_failure_rate, forget_lost_parts, publish, reconcile
from pipeline.runner import cores_per_worker, run_failed, worker_count
from pipeline.runs import Run, last_good_run, load_runs, new_run_id
from pipeline.stall import StallWatch
from pipeline.summary import Summary
from pipeline.tables import Table
from transforms.backbones import Resolved, export, model_id, resolve
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.errors import Refused
from transforms.models import cached_model, save_model
from transforms.plan import Changes, PlanPolicy
from transforms.recipe import Recipe, differences
from transforms.reuse import INDEX_FILE
from transforms.storage import Storage, open_storage

if TYPE_CHECKING:
    from transforms.extract import ExtractJob

_LOG = logging.getLogger(__name__)
_PIXELS = {"decode": "srgb-white-exif-1", "resize_kernel": "bilinear-antialias-8bit"}  # docs/decoding.md


@dataclass(frozen=True, slots=True)
class _Work:
    """A run's inputs, opened and resolved once, and what is known of it so far."""

    config: Config
    output: Storage
    network: Resolved
    recipe: Recipe
    features: Table
    errors: Table
    metrics: Metrics

    @property
    def tables(self) -> tuple[Table, Table]:
        """Features and errors."""
        return self.features, self.errors


def extract(config: Config) -> Summary:
    """Run ``config`` and return its reconciled summary.

    Raises ``UserError`` for what the caller can mend, ``Refused`` when nothing may be published, ``RunFailed``
    when workers or storage broke off. In each case the published tables are as they were, and the same call
    takes up what is done.
    """
    with Metrics(config) as metrics:
        work = _open(config, metrics)
        _check_recipe(work)
        run = None if config.dry_run else _unfinished(work)
        if run is None:
            with metrics.watch.time("plan"):
                run = _plan(work)
        metrics.summary = run.counts
        if run.state == "planned" and not config.dry_run:
            metrics.summary = _finish(run, work)
        return metrics.summary


def _open(config: Config, metrics: Metrics) -> _Work:
    network = resolve(config.backbone_config())
    return _Work(
        config=config,
        output=open_storage(config.output),
        network=network,
        recipe=make_recipe(config, network),
        features=Table(config.output, "features"),
        errors=Table(config.output, "errors"),
        metrics=metrics,
    )


def make_recipe(config: Config, network: Resolved) -> Recipe:
    """Everything that determines a vector, flat."""
    return {**network.recipe_fields, **_PIXELS, "resize": config.resize, "precision": config.precision}


def _check_recipe(work: _Work) -> None:
    """Refuse to mix vectors of two recipes in one table."""
    known = work.features.recipe()
    if known is None or work.config.rebuild:
        return
    changes = differences(known, work.recipe)
    if changes:
        raise Refused(
            f"the table in {work.config.output} was made with another recipe: {'; '.join(changes)}. "
            "Use the old options, another --output, or --rebuild to do all images again and replace the table."
        )


def _unfinished(work: _Work) -> Run | None:
    """The newest run, if it was broken off after its plan and still fits; it is taken up."""
    latest = next(iter(load_runs(work.output, most=1)), None)
    if latest is None or latest.state != "planned":
        return None
    config = work.config
    same = (latest.inputs, latest.recipe, latest.policy) == (config.inputs, work.recipe, config.plan_options)
    moved_on = any(
        latest.versions.get(table.name) != table.version and not table.has_run(latest.run_id) for table in work.tables
    )
    if not same or moved_on:
        # Killed after its last commit, a run lacks only this note.
        latest.end(work.output, "published" if work.features.has_run(latest.run_id) else "superseded")
        return None
    _LOG.info("taking up run %s of %s", latest.run_id, latest.started_at)
    return latest


def _plan(work: _Work) -> Run:
    """List, compare and cut. The state of the run is ``unchanged`` when there is nothing to do."""
    config = work.config
    before = last_good_run(work.output)
    run = Run(
        run_id=new_run_id(),
        started_at=datetime.now(UTC).isoformat(),
        inputs=config.inputs,
        recipe=work.recipe,
        policy=config.plan_options,
        covers=_covers(config, before),
        versions={table.name: table.version for table in work.tables},
    )
    if config.dry_run:
        listing = list_here(config.inputs)
    else:
        listing = list_sources(config.inputs, work.output, _submission(work, f"{run.folder}/listing"))
    if not listing.images.num_rows:
        raise nothing_listed(config.inputs, listing.ignored)
    policy = PlanPolicy(config.rebuild, config.retry_failed, config.keep_removed)
    changes = find_changes(listing, work.features, work.errors, policy)
    run = replace(
        run,
        plan=counts(run.run_id, changes, listing, config),
        stale={"features": len(changes.features.uris), "errors": len(changes.errors.uris)},
        kept={"features": changes.features.kept, "errors": changes.errors.kept},
    )
    work.metrics.summary = run.counts
    try:
        check_removed(changes, config, before)
    except Refused:
        if not config.dry_run:
            run.end(work.output, "refused", run.counts)
        raise
    if config.dry_run:
        return run
    if changes.nothing_to_do:
        return run.end(work.output, "unchanged", run.counts)
    return _write_plan(run, changes, work).save(work.output)


def _covers(config: Config, before: Run | None) -> tuple[str, ...]:
    """The inputs that the tables' rows come from after the run."""
    earlier = before.covers if before and config.keep_removed else ()
    return tuple(dict.fromkeys([*config.inputs, *earlier]))


def _write_plan(run: Run, changes: Changes, work: _Work) -> Run:
    """Write all that the workers and a later start need, the note excepted."""
    config, output = work.config, work.output
    write_stale(changes, output, run.folder)
    shards = cut(changes.todo, output, run.folder, config.shard_size, worker_count(config.beam_args))
    reuse = bool(shards) and not config.rebuild and write_index(changes.todo, work.features, output, run.folder)
    return replace(run, shards=shards, reuse=reuse)


def _finish(run: Run, work: _Work) -> Summary:
    """Do what a planned run lacks: its shards, and its commits."""
    watch = work.metrics.watch
    with watch.time("extract"):
        done = {receipt.shard for receipt in forget_lost_parts(run, work.output)}
        missing = [shard for shard in run.shards if shard not in done]
        if missing:
            _LOG.info("run %s: %s images in %d shards", run.run_id, f"{run.references:,}", len(missing))
            job = _job(run, work)
            with Progress(run, work.output), run_failed(run.run_id):
                extract_shards(missing, job, _submission(work, f"{run.folder}/receipts"))
    with watch.time("publish"):
        receipts = run.receipts(work.output)
        work.metrics.summary = summary = reconcile(run, receipts)
        try:
            check_failure_rate(run, summary, work.config.max_failure_rate)
        except Refused:
            run.end(work.output, "refused", summary)
            raise
        version = publish(run, summary, receipts, work.output, work.tables)
        summary = replace(summary, published=True, version=version)
        run.end(work.output, "published", summary)
    compact_if_needed(work.config.output)
    return summary


def _submission(work: _Work, folder: str) -> Submission:
    """For a graph that leaves a file in ``folder`` for each piece of work."""
    return Submission(work.config.beam_args, StallWatch(work.output, folder, work.config.stall_timeout))


def _job(run: Run, work: _Work) -> ExtractJob:
    """What the workers need, the exported network included."""
    from transforms.decode import DecodePolicy
    from transforms.extract import ExtractJob
    from transforms.read import ReadPolicy

    config = work.config
    cores = config.cores_per_worker or cores_per_worker(config.beam_args)
    network_id = model_id(work.network)

    def fill(scratch: Path) -> None:
        import_tensorflow(cores)  # its threads are set once, and this process may be the worker too
        export(work.network, scratch)

    folder = cached_model(network_id, fill)
    save_model(work.output, network_id, folder)
    return ExtractJob(
        output=work.output.url,
        run_id=run.run_id,
        started_at=datetime.fromisoformat(run.started_at),
        recipe=work.recipe,
        model_id=network_id,
        resize=config.resize,
        engine=config.engine,
        precision=config.precision,
        cores=cores,
        decode=DecodePolicy(max_bytes=config.max_image_bytes, max_pixels=config.max_pixels),
        read=ReadPolicy(max_bytes=config.max_image_bytes),
        index_key=f"{run.folder}/{INDEX_FILE}" if run.reuse else None,
    )
