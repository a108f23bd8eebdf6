"""One run: plan, extract, publish; in one command, or in three."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from pipeline.config import Config
from pipeline.diagnostics.estimate import estimate_plan
from pipeline.maintenance.compact import compact_if_needed
from pipeline.maintenance.repair import healed
from pipeline.reports.metrics import Metrics
from pipeline.reports.progress import Progress
from pipeline.runners.jobs import Job, Submission, find_running, job_place
from pipeline.runners.pipeline import run_failed, worker_count
from pipeline.runners.stall import StallWatch
from pipeline.state.run import Run, last_good_run, new_run_id
from pipeline.state.summary import Summary
from pipeline.steps.extract import extract_shards, prepare_job
from pipeline.steps.listing import Listing, list_here, list_sources, nothing_listed
from pipeline.steps.plan import Plan, check_removed, find_changes, summarise, write_index
from pipeline.steps.publish import check_failure_rate, failed_again, forget_lost_parts, publish, reconcile
from pipeline.steps.resume import check_fits, newest_run, planned_run, take_up
from pipeline.steps.session import Work, open_work
from pipeline.tables import Tables
from transforms.errors import Refused, UserError
from transforms.plan import PlanPolicy, ShardPolicy
from transforms.sources import parse_input
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)


def extract(config: Config) -> Summary:
    """Run ``config`` and return its reconciled summary, whose ``state`` says how far it got.

    Raises ``UserError`` for what the caller can mend, ``Refused`` when nothing may be published, ``RunFailed``
    when workers or storage broke off. In each case the published tables are as they were, and the same call
    takes up what is done.
    """
    _check_no_wait(config)
    with Metrics(config.output, config.metrics_json, config.metrics_prometheus) as metrics:
        return healed(config, partial(_night, config, metrics))


def plan_run(config: Config) -> Summary:
    """The first of three steps: list, compare, write the plan. ``extract`` with ``planned`` does its shards."""
    with Metrics(config.output, config.metrics_json, config.metrics_prometheus) as metrics:
        healed(config, lambda: _planned(open_work(config, metrics)))
        return metrics.summary


def publish_run(
    output: str,
    max_failure_rate: float | None = None,
    metrics_json: str | None = None,
    metrics_prometheus: str | None = None,
    stores: Stores = (),
) -> Summary:
    """The last of three steps: commit a run whose shards are done. The state is ``unchanged`` when there is none.

    Needs no network and no runner. Raises ``Refused`` when shards are missing, and what ``extract`` raises.
    """
    with Metrics(output, metrics_json, metrics_prometheus) as metrics:
        storage = open_storage(output, stores)
        run = newest_run(storage)
        if run.state != "planned":
            metrics.summary = Summary(run.run_id, state="unchanged")
            return metrics.summary
        metrics.summary = run.counts
        tables = Tables.open(storage)
        check_fits(run, tables)
        if missing := _missing(run, storage):
            raise Refused(
                f"{len(missing):,} of the {len(run.shards):,} shards of run {run.run_id} are not done yet; nothing was "
                f"published. 'image-features status {output}' says how far it is; 'extract' does what is missing."
            )
        rate = run.max_failure_rate if max_failure_rate is None else max_failure_rate
        metrics.summary = _publish(replace(run, max_failure_rate=rate), storage, tables, metrics, stores)
        return metrics.summary


def _night(config: Config, metrics: Metrics) -> Summary:
    work = open_work(config, metrics)
    run = planned_run(work) if config.planned else _planned(work)
    if run.state == "planned" and not config.dry_run:
        metrics.summary = run.counts
        metrics.summary = _finish(run, work)
    elif config.planned:
        metrics.summary = Summary(run.run_id, state="unchanged")
    return metrics.summary


def _check_no_wait(config: Config) -> None:
    if config.no_wait and job_place(config.beam_args) is None:
        raise UserError(
            "--no-wait: the jobs of this runner end with the command that started them. It is for jobs that go on by "
            "themselves: --runner=DataflowRunner, or a job service that runs by itself, at --job_endpoint"
        )


def _planned(work: Work) -> Run:
    """A run that was broken off, or a new one."""
    dry_run = work.config.dry_run
    run = None if dry_run else take_up(work)
    if run is None:
        with work.metrics.watch.time("plan"):
            run = _plan(work)
    work.metrics.summary = replace(run.counts, state="dry_run" if dry_run else run.state)
    return run


def _plan(work: Work) -> Run:
    """List, compare and cut. The state of the run is ``unchanged`` when there is nothing to do."""
    config = work.config
    before = last_good_run(work.output)
    run = Run(
        run_id=new_run_id(work.output),
        started_at=datetime.now(UTC).isoformat(),
        inputs=config.inputs,
        recipe=work.recipe,
        policy=config.plan_options,
        covers=_covers(config, before),
        versions=work.tables.versions,
        max_failure_rate=config.max_failure_rate,
    )
    watch = _watch(work, f"{run.folder}/listing")
    sources = [parse_input(text, config.stores) for text in config.inputs]
    listed = (
        list_here(sources)
        if config.dry_run
        else list_sources(sources, work.output, Submission(config.beam_args, watch=watch), config.stores)
    )
    with listed as listing:
        if not listing.rows:
            rows = sum(rows for _, rows in work.tables.features.spread())
            raise nothing_listed(sources, listing.ignored, rows)
        plan = _compare(listing, run, work)
    run = replace(run, plan=summarise(run.run_id, plan, listing, config), stale=dict(plan.stale), kept=dict(plan.kept))
    work.metrics.summary = run.counts
    try:
        check_removed(plan.counts, config, before)
    except Refused:
        if not config.dry_run:
            run.end(work.output, "refused", run.counts)
        raise
    if config.dry_run:
        if expected := estimate_plan(plan, config):
            _LOG.info("%s", expected)
        return run
    if plan.nothing_to_do:
        return run.end(work.output, "unchanged", run.counts)
    reuse = (
        plan.todo > 0 and not config.rebuild and write_index(plan.sizes, work.tables.features, work.output, run.folder)
    )
    return replace(run, shards=tuple(plan.shards), reuse=reuse).save(work.output)


def _compare(listing: Listing, run: Run, work: Work) -> Plan:
    """Compare the listing with the tables, and write shards on the way; a dry run only counts."""
    config = work.config
    output = None if config.dry_run else work.output
    shards = ShardPolicy(config.shard_size, config.shard_bytes, worker_count(config.beam_args))
    plan = Plan(output, run.folder, shards, replace_all=config.rebuild)
    policy = PlanPolicy(config.rebuild, config.retry_failed, config.keep_removed)
    for changes in find_changes(listing, work.tables.features, work.tables.errors, policy):
        plan.add(changes)
    plan.finish()
    return plan


def _covers(config: Config, before: Run | None) -> tuple[str, ...]:
    """The inputs that the tables' rows come from after the run."""
    earlier = before.covers if before and config.keep_removed else ()
    return tuple(dict.fromkeys([*config.inputs, *earlier]))


def _finish(run: Run, work: Work) -> Summary:
    """Do what a planned run lacks, as far as the options want it."""
    with work.metrics.watch.time("extract"):
        extracted = _extract(run, work)
    if extracted is None:
        return replace(run.counts, state="submitted")
    if work.config.planned:
        return replace(reconcile(extracted, extracted.receipts(work.output)), state="extracted")
    return _publish(extracted, work.output, work.tables, work.metrics, work.config.stores)


def _extract(run: Run, work: Work) -> Run | None:
    """Do the shards that have no receipt; None when a job is at work on them that nobody wants to wait for.

    A job that an earlier start submitted is waited for. If it has ended, is not known any more, or leaves shards
    undone, another one is submitted for what is missing.
    """
    config, output = work.config, work.output
    missing = _missing(run, output)
    submission = Submission(
        config.beam_args,
        partial(_note, run, output),
        not config.no_wait,
        config.accelerator,
        run.job,
        watch=_watch(work, f"{run.folder}/receipts"),
    )
    if missing and run.job:
        with Progress(run, output), run_failed(f"run {run.run_id}"):
            running = find_running(run.job, config.beam_args)
            if running and config.no_wait:
                return None
            if running:
                submission.wait_for(running)
        missing = _missing(run, output)
    if missing:
        _LOG.info("run %s: %s images in %d shards", run.run_id, f"{run.references:,}", len(missing))
        workers_job = prepare_job(run, work)
        with Progress(run, output), run_failed(f"run {run.run_id}"):
            extract_shards(missing, workers_job, submission)
        run = replace(run, job=submission.job or run.job)
    return None if missing and config.no_wait else replace(run, max_failure_rate=config.max_failure_rate)


def _watch(work: Work, folder: str) -> StallWatch:
    """Over a job that leaves a file in ``folder`` for each piece of work."""
    return StallWatch(work.output, folder, work.config.stall_timeout)


def _note(run: Run, output: Storage, job: Job) -> None:
    """A driver that is killed before this is written leaves a job that the next start does not find.

    It then submits a second one: twice the work, and no harm, since the first receipt of each shard counts.
    """
    replace(run, job=job).save(output)


def _missing(run: Run, output: Storage) -> list[str]:
    """The shards without a receipt, or with one whose part has gone."""
    done = {receipt.shard for receipt in forget_lost_parts(run, output)}
    return [shard for shard in run.shards if shard not in done]


def _publish(run: Run, output: Storage, tables: Tables, metrics: Metrics, stores: Stores) -> Summary:
    """Check the counts of a run whose shards are done, and commit it."""
    with metrics.watch.time("publish"):
        receipts = run.receipts(output)
        metrics.summary = summary = reconcile(run, receipts)
        try:
            check_failure_rate(run, summary, failed_again(run, receipts, tables.errors), run.max_failure_rate)
        except Refused:
            run.end(output, "refused", summary)
            raise
        version = publish(run, summary, receipts, output, tables)
        summary = replace(summary, state="published", version=version)
        run.end(output, "published", summary)
    compact_if_needed(output.url, stores)
    return summary
