"""Extraction: shards through the workers. THE graph of the run.

Named so, and not ``extract.py``, because ``pipeline.extract`` is the function that runs everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cluster import extract_args
from pipeline.config import Config
from pipeline.runner import new_pipeline

if TYPE_CHECKING:
    import apache_beam as beam

    from transforms.extract import ExtractJob


def extract_shards(shards: Sequence[str], job: ExtractJob, config: Config) -> None:
    """Do the shards on the runner's workers; what they did lies in their receipts."""
    with new_pipeline(extract_args(config.beam_args, config.accelerator, len(shards))) as pipeline:
        _ = pipeline | "Extract" >> extraction(shards, job, config.accelerator)


def extraction(shards: Sequence[str], job: ExtractJob, accelerator: str | None = None) -> beam.PTransform:
    """The graph: names of shards → the same names, each with a receipt.

    The accelerator is asked for by all of it, not by a step: another environment in the middle would cut the graph
    there, and a cluster would start other workers for each side. So it has two stages, with or without.
    """
    import apache_beam as beam

    from transforms.shards import ExtractShards

    graph = (
        "Shards" >> beam.Create(list(shards), reshuffle=False)  # "Spread" does it
        | "Spread" >> beam.Reshuffle()
        | "ExtractShards" >> ExtractShards(job)
    )
    return graph.with_resource_hints(accelerator=accelerator) if accelerator else graph
