"""Extract the missing shards of a run on the workers. Holds the run's Beam graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.maintenance.announce import announce_commit
from pipeline.reports.progress import OnProgress, Progress
from pipeline.runners.cluster import extract_args
from pipeline.runners.computing import log_computing
from pipeline.runners.jobs import Job, Submission, find_running
from pipeline.runners.pipeline import new_pipeline, run_failed
from pipeline.runners.stall import StallWatch
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.steps.receipts import missing_shards
from pipeline.steps.session import Session
from transforms.backbones import export, model_id
from transforms.carried import to_arrow
from transforms.engines.models import cached_model, save_model
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.parts.reuse import INDEX_FILE
from transforms.storage import Storage

if TYPE_CHECKING:
    import apache_beam as beam

    from transforms.extract import ExtractJob

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extracted:
    """A run whose shards are done, or whose job runs without this process (``submitted``)."""

    run: Run
    submitted: bool

    @property
    def counts(self) -> Summary:
        """The counts of the plan."""
        return self.run.counts


def extract_missing(run: Run, session: Session, on_progress: OnProgress | None = None) -> Extracted:
    """Extract the shards that have no receipt; with ``--no-wait`` only submit them.

    Waits for a job that an earlier start submitted. If that job has ended, is unknown, or leaves
    shards undone, submits another one for the missing shards.

    Args:
        run: A planned run.
        session: The options, with what they name opened.
        on_progress: Called each second with the number of images done.

    Raises:
        RunFailed: The workers, the runner or the storage failed, or the job stalled.
    """
    config, output = session.config, session.output
    missing = missing_shards(run, output, session.tables.features)
    submission = Submission(
        session.runner,
        partial(_note_job, run, output),
        not config.no_wait,
        config.accelerator,
        run.job,
        watch=StallWatch(output, f"{run.folder}/receipts", config.stall_timeout),
    )
    if missing and run.job:
        with Progress(run, output, on_progress), run_failed(f"run {run.run_id}"):
            running = find_running(run.job, session.runner)
            if running and config.no_wait:
                return Extracted(run, submitted=True)
            if running:
                submission.wait_for(running)
        missing = missing_shards(run, output, session.tables.features)
    if missing:
        _LOG.info("run %s: %s images in %d shards", run.run_id, f"{run.references:,}", len(missing))
        log_computing(config, session.runner)
        job = prepare_job(run, session)
        with Progress(run, output, on_progress), run_failed(f"run {run.run_id}"):
            extract_shards(missing, job, submission)
        run = replace(run, job=submission.job or run.job)
    run = replace(run, max_failure_rate=config.max_failure_rate)
    return Extracted(run, submitted=bool(missing) and config.no_wait)


def _note_job(run: Run, output: Storage, job: Job) -> None:
    """Note a job in ``run.json``, for the next start to find.

    A driver that is killed before that leaves a job that nobody finds. A second job then does the
    same shards: twice the work and no harm, since the first receipt of each shard counts.
    """
    replace(run, job=job).save(output)


def extract_shards(shards: Sequence[str], job: ExtractJob, submission: Submission) -> None:
    """Extract shards on the runner's workers, which write the results and the receipts.

    Args:
        shards: Names of the shards.
        job: What the workers need.
        submission: The runner, and how to wait for it.

    Raises:
        Stalled: The job makes no progress any more.
    """
    runner = submission.runner
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

    from transforms.extract import ExtractShards

    graph = (
        # The next step reshuffles.
        "Shards" >> beam.Create(list(shards), reshuffle=False)
        | "Spread" >> beam.Reshuffle()
        | "ExtractShards" >> ExtractShards(job)
    )
    return graph.with_resource_hints(accelerator=accelerator) if accelerator else graph


def prepare_job(run: Run, session: Session) -> ExtractJob:
    """Return what the workers need, and put the exported network into the output.

    Args:
        run: A planned run.
        session: The options, with what they name opened.
    """
    from transforms.decode.image import DecodePolicy
    from transforms.extract import ExtractJob
    from transforms.read import ReadPolicy

    config = session.config
    cores = config.cores_per_worker or session.runner.cores_per_worker
    network_id = model_id(session.network)

    def fill(scratch: Path) -> None:
        # TensorFlow's threads are set only once, and this process may be the worker too.
        import_tensorflow(cores)
        export(session.network, scratch)

    folder = cached_model(network_id, fill)
    with announce_commit(session.output, save_model(session.output, network_id, folder)):
        # The network is there, and any later vacuum sees this run's note.
        pass
    return ExtractJob(
        output=session.output.url,
        run_id=run.run_id,
        started_at=datetime.fromisoformat(run.started_at),
        recipe=session.recipe,
        model_id=network_id,
        table=session.tables.features.name,
        source=to_arrow(run.carried),
        resize=config.resize,
        engine=config.engine,
        precision=config.precision,
        cores=cores,
        decode=DecodePolicy(max_bytes=config.max_image_bytes, max_pixels=config.max_pixels),
        read=ReadPolicy(max_bytes=config.max_image_bytes, stores=config.stores),
        index_key=f"{run.folder}/{INDEX_FILE}" if run.reuse else None,
        stores=config.stores,
    )
