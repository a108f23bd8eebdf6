"""The PTransform of the extraction: shard names → shard names, each with a receipt in the output."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from transforms.extract import ExtractJob, extract_shard


@dataclass(eq=False)
class ExtractShards(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """Extract each shard: reads, decodes, embeds, writes one part and one receipt; emits the shard's name.

    Emits one name for each name, also when a shard is repeated. Nothing is emitted for a shard that fails:
    the bundle does, with everything that lies outside single images (storage, model, self-check).
    """

    job: ExtractJob

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Wire the graph."""
        return shards | "Extract" >> beam.Map(_extract, self.job)


def _extract(shard: str, job: ExtractJob) -> str:
    return extract_shard(shard, job).shard
