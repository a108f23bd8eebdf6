"""Extraction: shards through the workers. THE graph of the run.

Named so, and not ``extract.py``, because ``pipeline.extract`` is the function that runs everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.runner import new_pipeline

if TYPE_CHECKING:
    from transforms.extract import ExtractJob


def extract_shards(shards: Sequence[str], job: ExtractJob, beam_args: Sequence[str]) -> None:
    """Do the shards on the runner's workers; what they did lies in their receipts."""
    import apache_beam as beam

    from transforms.shards import ExtractShards

    with new_pipeline(beam_args) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(list(shards))
            | "Spread" >> beam.Reshuffle()
            | "ExtractShards" >> ExtractShards(job)
        )
