"""Run the pipeline (plan → extract → publish) as one command, or as three."""

from __future__ import annotations

import logging
from dataclasses import replace
from os import PathLike, fspath

from pipeline.config import Config
from pipeline.diagnostics.estimate import estimate_plan
from pipeline.maintenance.compact import compact_if_needed
from pipeline.maintenance.repair import run_with_repair
from pipeline.reports.metrics import Metrics
from pipeline.reports.progress import OnProgress
from pipeline.runners.options import RunnerOptions
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.steps.extract import extract_missing
from pipeline.steps.plan import Compared, compare, settle
from pipeline.steps.publish import publish
from pipeline.steps.receipts import missing_shards
from pipeline.steps.reconcile import reconcile_run
from pipeline.steps.resume import check_fits, newest_run, planned_run, resume
from pipeline.steps.session import Session, open_session
from pipeline.tables import Table, Tables
from transforms.errors import Refused, UserError
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)


def extract(config: Config, on_progress: OnProgress | None = None) -> Summary:
    """Plan, extract and publish, unless the options stop earlier.

    An error leaves the published tables unchanged, and the same call resumes the run.

    Args:
        config: Options of the run.
        on_progress: Called with a ``Done`` each second while the workers work, from a thread of
            its own. The run then shows no progress itself.

    Returns:
        The reconciled summary; its ``state`` says how far the run got.

    Raises:
        UserError: The caller can correct something.
        Refused: Nothing may be published: too many failures or removals, or another writer.
        RunFailed: The workers, the runner or the storage failed.
    """
    with Metrics.of(config) as metrics:
        runner = RunnerOptions.parse(config.beam_args)
        _check_no_wait(config, runner)
        return metrics.end(
            run_with_repair(
                config, lambda: _run_steps(open_session(config, runner), metrics, on_progress)
            )
        )


def _run_steps(session: Session, metrics: Metrics, on_progress: OnProgress | None) -> Summary:
    """Run the steps that the options ask for; damaged parts of the tables raise ``Damaged``."""
    config = session.config
    run = metrics.reached(planned_run(session)) if config.planned else _plan(session, metrics)
    if config.planned and run.state != "planned":
        return Summary(run.run_id, state="unchanged")
    if config.dry_run or run.state != "planned":
        return _planned(run, config)
    extracted = metrics.step("extract", lambda: extract_missing(run, session, on_progress))
    if extracted.submitted:
        return replace(extracted.counts, state="submitted")
    if config.planned:
        return replace(reconcile_run(extracted.run, session.output).counts, state="extracted")
    return _publish(extracted.run, session.output, session.tables, metrics, config.stores)


def plan_run(config: Config) -> Summary:
    """Run the first of three steps: list the images, compare them, write the plan.

    ``extract`` with ``planned`` then extracts its shards.

    Args:
        config: Options of the run.

    Returns:
        The counts of the plan.

    Raises:
        UserError: The caller can correct something.
        Refused: Too many images would be removed.
        RunFailed: The listing failed.
    """
    with Metrics.of(config) as metrics:
        runner = RunnerOptions.parse(config.beam_args)
        return metrics.end(
            run_with_repair(
                config, lambda: _planned(_plan(open_session(config, runner), metrics), config)
            )
        )


def publish_run(
    output: str | PathLike[str],
    max_failure_rate: float | None = None,
    metrics_json: str | None = None,
    metrics_prometheus: str | None = None,
    stores: Stores = (),
) -> Summary:
    """Run the last of three steps: commit a run whose shards are done.

    This step needs no backbone and no runner.

    Args:
        output: Folder or URL that ``extract`` wrote.
        max_failure_rate: Share from 0 to 1 that replaces the one of the plan.
        metrics_json: File to which a line is appended, or "-" for standard output.
        metrics_prometheus: File that is overwritten.
        stores: Settings of buckets, in the syntax of ``--store``.

    Returns:
        The reconciled summary; its state is ``unchanged`` when nothing was planned.

    Raises:
        UserError: The output holds no run.
        Refused: Shards are missing, too many images failed, or the tables have changed.
        RunFailed: The storage did not accept the commit.
    """
    output = fspath(output)
    with Metrics(output, metrics_json, metrics_prometheus) as metrics:
        storage = open_storage(output, stores)
        run = newest_run(storage)
        if run.state != "planned":
            return metrics.end(Summary(run.run_id, state="unchanged"))
        metrics.reached(run)
        tables = Tables.open(storage)
        check_fits(run, tables)
        _check_done(run, storage, tables.features)
        if max_failure_rate is not None:
            run = replace(run, max_failure_rate=max_failure_rate)
        return metrics.end(_publish(run, storage, tables, metrics, stores))


def _plan(session: Session, metrics: Metrics) -> Run:
    """Resume an unfinished run, or plan a new one."""
    if not session.config.dry_run and (run := resume(session)):
        return metrics.reached(run)
    compared = metrics.step("plan", lambda: compare(session))
    run = metrics.step("plan", lambda: settle(compared, session))
    if session.config.dry_run:
        _log_estimate(compared, session)
    return run


def _log_estimate(compared: Compared, session: Session) -> None:
    """Log what a run would read, take and cost."""
    expected = estimate_plan(compared.plan, session.config, session.runner)
    if expected:
        _LOG.info("%s", expected)


def _planned(run: Run, config: Config) -> Summary:
    """Return the counts of a run that goes no further than its plan."""
    return replace(run.counts, state="dry_run" if config.dry_run else run.state)


def _publish(
    run: Run, output: Storage, tables: Tables, metrics: Metrics, stores: Stores
) -> Summary:
    """Check the counts of a run whose shards are done, commit it, and merge small parts."""
    reconciled = metrics.step("publish", lambda: reconcile_run(run, output))
    published = metrics.step("publish", lambda: publish(reconciled, output, tables))
    compact_if_needed(output.url, stores)
    return published.counts


def _check_done(run: Run, output: Storage, features: Table) -> None:
    """Raise ``Refused`` when shards of a run are missing."""
    if missing := missing_shards(run, output, features):
        raise Refused(
            f"{len(missing):,} of the {len(run.shards):,} shards of run {run.run_id} are not done "
            f"yet; nothing was published. 'image-features status {output.url}' says how far it is; "
            "'extract' extracts the missing ones."
        )


def _check_no_wait(config: Config, runner: RunnerOptions) -> None:
    """Raise ``UserError`` for ``--no-wait`` when jobs of the runner end with the command."""
    if config.no_wait and runner.job_place is None:
        raise UserError(
            "--no-wait: the jobs of this runner end with the command that started them. It is for "
            "jobs that continue by themselves: --runner=DataflowRunner, or a job service that runs "
            "by itself, at --job_endpoint"
        )
