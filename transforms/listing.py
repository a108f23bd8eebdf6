"""The listing as a Beam transform: pieces of sources → files of image references in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from transforms.listing_files import write_listing
from transforms.sources import Source
from transforms.storage import open_storage


@dataclass(eq=False)
class ListImages(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """List each numbered piece into files; emits the piece's number."""

    output: str
    folder: str

    def expand(self, pieces: beam.PCollection) -> beam.PCollection:
        """Wire the graph."""
        return pieces | "List" >> beam.Map(_list, self.output, self.folder)


def _list(numbered: tuple[int, Source], output: str, folder: str) -> int:
    number, piece = numbered
    write_listing(piece, open_storage(output), f"{folder}/{number:06d}")
    return number
