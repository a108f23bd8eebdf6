"""List pieces of sources into files of image references, as a Beam transform."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from transforms.sources.groups import ListJob, list_group


@dataclass(eq=False)
class ListImages(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """List each numbered piece of each group into files of the job's folder, and emit its number.

    A user's mistake becomes a file too, which ``Listing`` raises.
    """

    job: ListJob

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        """Build the graph."""
        return groups | "List" >> beam.FlatMap(list_group, self.job)
