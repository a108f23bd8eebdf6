"""One run from beginning to end: resolve the recipe, plan, extract, publish."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.extraction import extract_shards
from pipeline.maintenance import compact_if_needed
from pipeline.plan import cut, find_changes, list_here, list_sources, nothing_listed
from pipeline.progress import Progress
from pipeline.publish import check_failure_rate, publish, reconcile
from pipeline.runner import run_failed, worker_count
from pipeline.runs import Run, load_runs, new_run_id
from pipeline.summary import Summary
from pipeline.tables import Table
from transforms.backbones import Resolved, export, model_id, resolve
from transforms.errors import Refused
from transforms.models import cached_model, save_model
from transforms.recipe import Recipe, differences
from transforms.storage import Storage, open_storage

if TYPE_CHECKING:
    from transforms.extract import ExtractJob

_LOG = logging.getLogger(__name__)
_PIXELS = {"decode": "srgb-white-exif-1", "resize_kernel": "bilinear-antialias-8bit"}  # docs/decoding.md


@dataclass(frozen=True, slots=True)
class _Work:
    """A run's inputs, opened and resolved once."""

    config: Config
    output: Storage
    network: Resolved
    recipe: Recipe
    features: Table
    errors: Table


def extract(config: Config) -> Summary:
    """Run ``config`` and return its reconciled summary.

    Raises ``UserError`` for what the caller can mend, ``Refused`` when nothing may be published, ``RunFailed``
    when workers or storage broke off. In each case the published tables are as they were, and the same call
    takes up what is done.
    """
    network = resolve(config.backbone_config())
    work = _Work(
        config=config,
        output=open_storage(config.output),
        network=network,
        recipe=make_recipe(config, network),
        features=Table(config.output, "features"),
        errors=Table(config.output, "errors"),
    )
    _check_recipe(work)
    run = None if config.dry_run else _unfinished(work)
    if run is None:
        planned = _plan(work)
        if isinstance(planned, Summary):
            return planned
        run = planned
    return _finish(run, work)


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
    same = (latest.inputs, latest.recipe, latest.rebuild) == (
        work.config.inputs,
        work.recipe,
        work.config.rebuild,
    )
    moved_on = any(
        latest.versions.get(table.name) != table.version and not table.has_run(latest.run_id)
        for table in (work.features, work.errors)
    )
    if not same or moved_on:
        latest.end(work.output, "superseded")
        return None
    _LOG.info("taking up run %s of %s", latest.run_id, latest.started_at)
    return latest


def _plan(work: _Work) -> Run | Summary:
    """List, compare and cut; a summary instead of a run when there is nothing to do."""
    config = work.config
    run = Run(
        run_id=new_run_id(),
        started_at=datetime.now(UTC).isoformat(),
        inputs=config.inputs,
        recipe=work.recipe,
        rebuild=config.rebuild,
        versions={table.name: table.version for table in (work.features, work.errors)},
    )
    if config.dry_run:
        listing = list_here(config.inputs)
    else:
        listing = list_sources(config.inputs, work.output, run.folder, config.beam_args)
    if not listing.images.num_rows:
        raise nothing_listed(config.inputs, listing.ignored)
    changes = find_changes(listing, work.features, work.errors, config.rebuild)
    _LOG.info(
        "listed %s images (%s other files ignored): %s new, %s changed, %s to retry, %s unchanged",
        *(f"{n:,}" for n in (changes.listed, listing.ignored, changes.new, changes.changed, changes.retried,
                             changes.unchanged)),
    )  # fmt: skip
    if config.dry_run or not changes.todo.num_rows:
        return Summary(
            run_id=run.run_id,
            listed=changes.listed,
            unchanged=changes.unchanged,
            failed=changes.still_failed,
            still_failed=changes.still_failed,
            ignored=listing.ignored,
            todo=changes.todo.num_rows,
        )
    shards = cut(changes.todo, work.output, run.folder, config.shard_size, worker_count(config.beam_args))
    return replace(
        run,
        listed=changes.listed,
        references=changes.todo.num_rows,
        unchanged=changes.unchanged,
        still_failed=changes.still_failed,
        ignored=listing.ignored,
        changed=changes.changed,
        shards=tuple(shards),
    ).save(work.output)


def _finish(run: Run, work: _Work) -> Summary:
    """Do what a planned run lacks: its shards, and its commits."""
    done = {receipt.shard for receipt in run.receipts(work.output)}
    missing = [shard for shard in run.shards if shard not in done]
    if missing:
        _LOG.info("run %s: %s images in %d shards", run.run_id, f"{run.references:,}", len(missing))
        job = _job(run, work)
        with Progress(run, work.output), run_failed(run.run_id):
            extract_shards(missing, job, work.config.beam_args)
    receipts = run.receipts(work.output)
    summary = reconcile(run, receipts)
    try:
        check_failure_rate(run, summary, work.config.max_failure_rate)
    except Refused:
        run.end(work.output, "refused", summary)
        raise
    version = publish(run, receipts, work.output, work.features, work.errors)
    summary = replace(summary, published=True, version=version)
    run.end(work.output, "published", summary)
    compact_if_needed(work.config.output)
    return summary


def _job(run: Run, work: _Work) -> ExtractJob:
    """What the workers need, the exported network included."""
    from transforms.decode import DecodePolicy
    from transforms.extract import ExtractJob
    from transforms.read import ReadPolicy

    config = work.config
    network_id = model_id(work.network)
    folder = cached_model(network_id, lambda scratch: export(work.network, scratch))
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
        decode=DecodePolicy(max_bytes=config.max_image_bytes, max_pixels=config.max_pixels),
        read=ReadPolicy(max_bytes=config.max_image_bytes),
    )
