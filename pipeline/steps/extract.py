"""Extract the missing shards of a run on the workers. Holds the run's Beam graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline.reports.progress import OnProgress, Progress
from pipeline.runners.cluster import extract_args
from pipeline.runners.computing import log_computing
from pipeline.runners.jobs import Job, Submission, find_running
from pipeline.runners.pipeline import new_pipeline, run_failed
from pipeline.runners.stall import StallWatch
from pipeline.state.run import Run
from pipeline.steps.networks import SavedNetwork, save_networks, worker_cores
from pipeline.steps.receipts import missing_shards
from pipeline.steps.session import Session
from transforms.backbones.model_json import resize_of
from transforms.carried_types import to_arrow
from transforms.extract import extract_shard
from transforms.parts.reuse import INDEX_FILE
from transforms.storage import Storage

if TYPE_CHECKING:
    import apache_beam as beam

    from transforms.targets import ExtractJob, Target

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extracted:
    """Runs whose shards are done, or whose job runs without this process (``submitted``)."""

    runs: tuple[Run, ...]
    submitted: bool


def extract_missing(
    runs: tuple[Run, ...], session: Session, on_progress: OnProgress | None = None
) -> Extracted:
    """Extract the shards that have no receipt; with ``--no-wait`` only submit them.

    Waits for a job that an earlier start submitted. If that job has ended, is unknown, or leaves
    shards undone, submits another one for the missing shards.

    Args:
        runs: The runs of all backbones, planned or finished.
        session: The options, with what they name opened.
        on_progress: Called each second with the number of images done.

    Raises:
        RunFailed: The workers, the runner or the storage failed, or the job stalled.
    """
    config, output, first = session.config, session.output, runs[0]
    missing = _missing(runs, session)
    watched = first.folder if first.others else f"{first.folder}/receipts"
    submission = Submission(
        session.runner,
        partial(_note_job, first, output),
        not config.no_wait,
        config.accelerator,
        first.job,
        watch=StallWatch(output, watched, config.stall_timeout),
    )
    if missing and first.job:
        with Progress(runs, output, on_progress), run_failed(f"run {first.run_id}"):
            running = find_running(first.job, session.runner)
            if running and config.no_wait:
                return Extracted(runs, submitted=True)
            if running:
                submission.wait_for(running)
        missing = _missing(runs, session)
    if missing:
        shards = _union(missing)
        images = max(run.references for run in runs)
        _LOG.info("run %s: %s images in %d shards", first.run_id, f"{images:,}", len(shards))
        # Most backbones compute in the same way.
        ways = {
            (own.config.engine, own.config.precision, own.network.engines): own
            for own in session.targets
        }
        for own in ways.values():
            log_computing(own.config, own.network, session.runner)
        job = prepare_job(runs, session, [number for number, own in enumerate(missing) if own])
        with Progress(runs, output, on_progress), run_failed(f"run {first.run_id}"):
            extract_shards(shards, job, submission)
        runs = (replace(first, job=submission.job or first.job), *runs[1:])
    runs = tuple(replace(run, max_failure_rate=config.max_failure_rate) for run in runs)
    return Extracted(runs, submitted=bool(missing) and config.no_wait)


def _missing(runs: Sequence[Run], session: Session) -> list[list[str]]:
    """Return the missing shards of each unfinished run; an empty list when none is missing."""
    missing = [
        missing_shards(run, session.output, target.tables.features)
        if run.state == "planned"
        else []
        for run, target in zip(runs, session.targets, strict=True)
    ]
    return missing if any(missing) else []


def _union(missing: Sequence[Sequence[str]]) -> list[str]:
    """Return the shards that are missing for any backbone, in the order of their numbers."""
    return sorted({shard for own in missing for shard in own}, key=lambda name: (len(name), name))


def _note_job(run: Run, output: Storage, job: Job) -> None:
    """Note a job in ``run.json``, for the next start to find.

    A driver that is killed before that leaves a job that nobody finds. A second job then does the
    same shards: twice the work and no harm, since the first receipt of each shard counts.
    """
    replace(run, job=job).save(output)


def extract_shards(shards: Sequence[str], job: ExtractJob, submission: Submission) -> None:
    """Extract shards on the workers, which write the results and the receipts.

    Args:
        shards: Names of the shards.
        job: What the workers need.
        submission: Where the workers are, and how to wait for them.

    Raises:
        Stalled: The job makes no progress any more.
    """
    runner = submission.runner
    if runner.is_alone:
        submission.do_here(extract_shard, shards, job)
        return
    pipeline = new_pipeline(runner, extract_args(runner, submission.accelerator, len(shards)))
    _ = pipeline | "Extract" >> extraction(shards, job, submission.accelerator)
    submission.run(pipeline)


def extraction(
    shards: Sequence[str], job: ExtractJob, accelerator: str | None = None
) -> beam.PTransform:
    """Return the run's graph: shard names → the same names, once their receipts are written.

    The whole graph asks for the accelerator, not one step: another environment in the middle would
    cut the graph there, and a cluster would start other workers for each side. So the graph has two
    stages, with or without an accelerator.

    Args:
        shards: Names of the shards.
        job: What the workers need.
        accelerator: Dataflow's ``accelerator`` hint; None for no accelerator.
    """
    import apache_beam as beam

    from transforms.transform import ExtractShards

    graph = (
        # The next step reshuffles.
        "Shards" >> beam.Create(list(shards), reshuffle=False)
        | "Spread" >> beam.Reshuffle()
        | "ExtractShards" >> ExtractShards(job)
    )
    return graph.with_resource_hints(accelerator=accelerator) if accelerator else graph


def prepare_job(runs: Sequence[Run], session: Session, wanted: Sequence[int]) -> ExtractJob:
    """Return what the workers need, and put the exported networks into the output.

    Args:
        runs: The runs of all backbones.
        session: The options, with what they name opened.
        wanted: The numbers of the backbones that have missing shards.
    """
    from transforms.decode.image import DecodePolicy
    from transforms.read import ReadPolicy
    from transforms.targets import ExtractJob

    config, first = session.config, runs[0]
    networks = save_networks(session, wanted)
    return ExtractJob(
        output=session.output.url,
        run_id=first.run_id,
        started_at=datetime.fromisoformat(first.started_at),
        targets=tuple(
            _target(runs[number], session.targets[number], networks[number], 1 << number)
            for number in wanted
        ),
        cores=worker_cores(session),
        require_accelerator=config.require_accelerator,
        decode=DecodePolicy(max_bytes=config.max_image_bytes, max_pixels=config.max_pixels),
        read=ReadPolicy(max_bytes=config.max_image_bytes, stores=config.stores),
        stores=config.stores,
    )


def _target(run: Run, session: Session, network: SavedNetwork, bit: int) -> Target:
    """Return what the workers need to know of one backbone."""
    from transforms.targets import Target

    config = session.config
    return Target(
        recipe=session.recipe,
        model_id=network.id,
        lowered_id=network.lowered_id,
        folder=run.folder,
        bit=bit,
        table=session.tables.features.name,
        resize=resize_of(session.network, config.resize),
        engine=config.engine,
        precision=config.precision,
        source=to_arrow(run.carried),
        index_key=f"{run.folder}/{INDEX_FILE}" if run.reuse else None,
    )
