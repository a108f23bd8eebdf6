"""Extract shards, as a Beam transform."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from transforms.extract import ExtractJob, extract_shard


@dataclass(eq=False)
class ExtractShards(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """Extract each shard into a part and a receipt for each target, and emit the shard's name.

    One name is emitted for each name received, also when a shard is repeated. Errors outside single
    images (storage, model, self-check) fail the bundle: nothing is emitted for that shard.
    """

    job: ExtractJob

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Build the graph."""
        return shards | "Extract" >> beam.Map(_extract_one, self.job)


def _extract_one(shard: str, job: ExtractJob) -> str:
    extract_shard(shard, job)
    return shard
