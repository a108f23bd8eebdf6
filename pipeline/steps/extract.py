"""Extraction: shards through the workers. THE graph of the run.

Named so, and not ``extract.py``, because ``pipeline.extract`` is the function that runs everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.maintenance.announce import bringing
from pipeline.runners.cluster import extract_args
from pipeline.runners.jobs import Submission
from pipeline.runners.pipeline import cores_per_worker, new_pipeline
from pipeline.state.run import Run
from pipeline.steps.session import Work
from transforms.backbones import export, model_id
from transforms.engines.models import cached_model, save_model
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.parts.reuse import INDEX_FILE

if TYPE_CHECKING:
    import apache_beam as beam

    from transforms.extract import ExtractJob


def extract_shards(shards: Sequence[str], job: ExtractJob, submission: Submission) -> None:
    """Do the shards on the runner's workers; what they did lies in their receipts."""
    pipeline = new_pipeline(extract_args(submission.beam_args, submission.accelerator, len(shards)))
    _ = pipeline | "Extract" >> extraction(shards, job, submission.accelerator)
    submission.run(pipeline)


def extraction(shards: Sequence[str], job: ExtractJob, accelerator: str | None = None) -> beam.PTransform:
    """The graph: names of shards → the same names, each with a receipt.

    The accelerator is asked for by all of it, not by a step: another environment in the middle would cut the graph
    there, and a cluster would start other workers for each side. So it has two stages, with or without.
    """
    import apache_beam as beam

    from transforms.extract import ExtractShards

    graph = (
        "Shards" >> beam.Create(list(shards), reshuffle=False)  # "Spread" does it
        | "Spread" >> beam.Reshuffle()
        | "ExtractShards" >> ExtractShards(job)
    )
    return graph.with_resource_hints(accelerator=accelerator) if accelerator else graph


def prepare_job(run: Run, work: Work) -> ExtractJob:
    """What the workers need, the exported network included."""
    from transforms.decode.image import DecodePolicy
    from transforms.extract import ExtractJob
    from transforms.read import ReadPolicy

    config = work.config
    cores = config.cores_per_worker or cores_per_worker(config.beam_args)
    network_id = model_id(work.network)

    def fill(scratch: Path) -> None:
        import_tensorflow(cores)  # its threads are set once, and this process may be the worker too
        export(work.network, scratch)

    folder = cached_model(network_id, fill)
    with bringing(work.output, save_model(work.output, network_id, folder)):
        pass  # it is there, and a vacuum that comes from now on sees this run's note
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
        read=ReadPolicy(max_bytes=config.max_image_bytes, stores=config.stores),
        index_key=f"{run.folder}/{INDEX_FILE}" if run.reuse else None,
        stores=config.stores,
    )
