"""Run the pipeline (plan → extract → publish) as one command, or as three."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from os import PathLike, fspath

from pipeline.config import Config
from pipeline.diagnostics.estimate import estimate_plan
from pipeline.maintenance.compact import compact_if_needed
from pipeline.maintenance.repair import run_with_repair
from pipeline.reports.metrics import Metrics
from pipeline.reports.progress import OnProgress
from pipeline.runners.computing import check_engine
from pipeline.runners.options import RunnerOptions
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.steps.extract import extract_missing
from pipeline.steps.networks import save_networks
from pipeline.steps.plan import Compared, compare, settle
from pipeline.steps.publish import check_failures, publish
from pipeline.steps.receipts import missing_shards
from pipeline.steps.reconcile import reconcile_run
from pipeline.steps.relabel import check_labels, relabel
from pipeline.steps.resume import check_fits, newest_run, planned_run, resume, whole_night
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
        The reconciled summary of the first backbone; its ``state`` says how far the run got.

    Raises:
        UserError: The caller can correct something.
        Refused: Nothing may be published: too many failures or removals, or another writer.
        RunFailed: The workers, the runner or the storage failed.
    """
    return extract_each(config, on_progress)[0]


def extract_each(config: Config, on_progress: OnProgress | None = None) -> tuple[Summary, ...]:
    """Do what ``extract`` does, and return the summary of each backbone, the first one first.

    A summary's ``table`` names the pair of tables; it is "" for the first one.
    """
    with Metrics.of(config) as metrics:
        runner = RunnerOptions.parse(config.beam_args)
        _check_no_wait(config, runner)
        work = partial(_run_steps, config, runner, metrics, on_progress)
        return metrics.end(*run_with_repair(config, work))


def _run_steps(
    config: Config, runner: RunnerOptions, metrics: Metrics, on_progress: OnProgress | None
) -> Sequence[Summary]:
    """Run the steps that the options ask for; damaged parts of the tables raise ``Damaged``."""
    for target in config.targets:
        check_engine(target, runner)
    session = open_session(config, runner)
    if not config.planned:
        session = metrics.step("plan", partial(relabel, session))
    runs = planned_run(session) if config.planned else _plan(session, metrics)
    metrics.note(run.counts for run in runs)
    if config.planned and runs[0].state != "planned":
        return [Summary(runs[0].run_id, state="unchanged")]
    if config.dry_run or runs[0].state != "planned":
        return _planned(runs, config)
    extracted = metrics.step("extract", lambda: extract_missing(runs, session, on_progress))
    if extracted.submitted:
        return [replace(run.counts, state="submitted") for run in extracted.runs]
    if config.planned:
        return [
            replace(reconcile_run(run, session.output).counts, state="extracted")
            for run in extracted.runs
        ]
    pairs = [target.tables for target in session.targets]
    return _publish(extracted.runs, session.output, pairs, metrics, config.stores)


def plan_run(config: Config) -> Summary:
    """Run the first of three steps: list the images, compare them, write the plan.

    ``extract`` with ``planned`` then extracts its shards.

    Args:
        config: Options of the run.

    Returns:
        The counts of the plan, of the first backbone.

    Raises:
        UserError: The caller can correct something.
        Refused: Too many images would be removed.
        RunFailed: The listing failed.
    """
    return plan_each(config)[0]


def plan_each(config: Config) -> tuple[Summary, ...]:
    """Do what ``plan_run`` does, and return the counts of each backbone, the first one first."""
    with Metrics.of(config) as metrics:
        runner = RunnerOptions.parse(config.beam_args)

        def work() -> Sequence[Summary]:
            session = open_session(config, runner)
            check_labels(session)
            session = relabel(session)
            runs = _plan(session, metrics)
            if not config.dry_run:
                # Here, so that the machine that extracts needs no TensorFlow.
                planned = [n for n, run in enumerate(runs) if run.state == "planned"]
                save_networks(session, planned)
            return _planned(runs, config)

        return metrics.end(*run_with_repair(config, work))


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
        The reconciled summary of the first backbone; its state is ``unchanged`` when nothing was
        planned.

    Raises:
        UserError: The output holds no run.
        Refused: Shards are missing, too many images failed, or the tables have changed.
        RunFailed: The storage did not accept the commit.
    """
    return publish_each(output, max_failure_rate, metrics_json, metrics_prometheus, stores)[0]


def publish_each(
    output: str | PathLike[str],
    max_failure_rate: float | None = None,
    metrics_json: str | None = None,
    metrics_prometheus: str | None = None,
    stores: Stores = (),
) -> tuple[Summary, ...]:
    """Do what ``publish_run`` does, and return the summary of each backbone, the first first."""
    output = fspath(output)
    with Metrics(output, metrics_json, metrics_prometheus) as metrics:
        storage = open_storage(output, stores)
        first = newest_run(storage)
        if first.state != "planned":
            return metrics.end(Summary(first.run_id, state="unchanged"))
        runs = whole_night(first, storage)
        metrics.note(run.counts for run in runs)
        pairs = [Tables.open(storage, run.table) for run in runs]
        for run, tables in zip(runs, pairs, strict=True):
            if run.state == "planned":
                check_fits(run, tables)
                _check_done(run, storage, tables.features)
        if max_failure_rate is not None:
            runs = tuple(replace(run, max_failure_rate=max_failure_rate) for run in runs)
        return metrics.end(*_publish(runs, storage, pairs, metrics, stores))


def _plan(session: Session, metrics: Metrics) -> tuple[Run, ...]:
    """Resume an unfinished run, or plan a new one."""
    if not session.config.dry_run and (runs := resume(session)):
        metrics.note(run.counts for run in runs)
        return runs
    compared = metrics.step("plan", lambda: compare(session))
    metrics.note(run.counts for run in compared.runs)
    runs = metrics.step("plan", lambda: settle(compared, session))
    metrics.note(run.counts for run in runs)
    if session.config.dry_run:
        _log_estimate(compared, session)
    return runs


def _log_estimate(compared: Compared, session: Session) -> None:
    """Log what a run would read, take and cost."""
    configs = [target.config for target in session.targets]
    expected = estimate_plan(compared, configs, session.runner)
    if expected:
        _LOG.info("%s", expected)


def _planned(runs: Sequence[Run], config: Config) -> list[Summary]:
    """Return the counts of runs that go no further than their plan."""
    return [replace(run.counts, state="dry_run" if config.dry_run else run.state) for run in runs]


def _publish(
    runs: Sequence[Run],
    output: Storage,
    pairs: Sequence[Tables],
    metrics: Metrics,
    stores: Stores,
) -> list[Summary]:
    """Check the counts of runs whose shards are done, commit them, and merge small parts.

    The first backbone's run comes last: it says whether the night is finished.
    """
    # A run that an earlier start published has a note of its summary.
    done = {
        run.table: Summary.of(run.summary) if run.summary else run.counts
        for run in runs
        if run.state != "planned"
    }
    unfinished = [(run, own) for run, own in zip(runs, pairs, strict=True) if run.table not in done]

    def summaries() -> list[Summary]:
        return [done.get(run.table, run.counts) for run in runs]

    reconciled = metrics.step(
        "publish", lambda: [(reconcile_run(run, output), own) for run, own in unfinished]
    )
    done |= {own.run.table: own.counts for own, _ in reconciled}
    metrics.note(summaries())
    metrics.step("publish", lambda: check_failures(reconciled, output))
    for own, tables in reversed(reconciled):
        published = metrics.step("publish", partial(publish, own, output, tables))
        done[own.run.table] = published.counts
        metrics.note(summaries())
    for _, tables in reconciled:
        compact_if_needed(output.url, stores, tables.name)
    return summaries()


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
