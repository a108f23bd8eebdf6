"""The listing as a Beam transform: pieces of sources → files of image references in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.records import REFERENCE_SCHEMA
from transforms.sources import Ignored, Source, list_images
from transforms.storage import open_storage

_IGNORED_KEY = b"image-features.ignored"


@dataclass(eq=False)
class ListImages(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """List each numbered piece into one Parquet file; emits the file's key."""

    output: str
    folder: str

    def expand(self, pieces: beam.PCollection) -> beam.PCollection:
        """Wire the graph."""
        return pieces | "List" >> beam.Map(_write_listing, self.output, self.folder)


def _write_listing(numbered: tuple[int, Source], output: str, folder: str) -> str:
    number, piece = numbered
    key = f"{folder}/{number:06d}.parquet"
    open_storage(output).write(key, encode_listing(*list_source(piece)))
    return key


def list_source(piece: Source) -> tuple[pa.Table, int]:
    """The images of a piece (REFERENCE_SCHEMA), and how many other files its folder holds."""
    ignored = Ignored()
    batches = list(list_images(piece, ignored))
    return pa.Table.from_batches(batches, REFERENCE_SCHEMA), ignored.total


def encode_listing(images: pa.Table, ignored: int) -> bytes:
    """A listing file: REFERENCE_SCHEMA, with the count of ignored files in its metadata."""
    sink = pa.BufferOutputStream()
    pq.write_table(images.replace_schema_metadata({_IGNORED_KEY: str(ignored)}), sink, compression="zstd")
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def read_listing_file(encoded: bytes) -> tuple[pa.Table, int]:
    """The images of a listing file, and how many files were ignored."""
    table = pq.read_table(pa.BufferReader(encoded))
    ignored = int(table.schema.metadata[_IGNORED_KEY])
    return table.replace_schema_metadata(None), ignored
