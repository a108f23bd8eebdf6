"""Extraction: shards through the workers. THE graph of the run.

Named so, and not ``extract.py``, because ``pipeline.extract`` is the function that runs everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.jobs import Submission
from pipeline.runner import new_pipeline

if TYPE_CHECKING:
    from transforms.extract import ExtractJob


def extract_shards(shards: Sequence[str], job: ExtractJob, submission: Submission) -> None:
    """Do the shards on the runner's workers; what they did lies in their receipts."""
    import apache_beam as beam

    from transforms.shards import ExtractShards

    pipeline = new_pipeline(submission.beam_args)
    _ = (
        pipeline
        | "Shards" >> beam.Create(list(shards))
        | "Spread" >> beam.Reshuffle()
        | "ExtractShards" >> ExtractShards(job)
    )
    submission.run(pipeline)
