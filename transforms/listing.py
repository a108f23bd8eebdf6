"""The listing as a Beam transform: pieces of sources → files of image references in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.records import REFERENCE_SCHEMA
from transforms.sources import Ignored, Source, list_images
from transforms.storage import open_storage
from transforms.stores import use_stores

_AT_ONCE = 16  # pieces that one worker lists at once: a page of a bucket takes 50 ms of waiting and 1 ms of work
_IGNORED_KEY = b"image-features.ignored"


@dataclass(eq=False)
class ListImages(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """List groups of numbered pieces, a group's pieces at once, each into one Parquet file; emits the files' keys."""

    output: str
    folder: str
    stores: tuple[str, ...] = ()  # where buckets are, see ``transforms.stores``

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        """Wire the graph."""
        return groups | "List" >> beam.FlatMap(_write_listings, self.output, self.folder, self.stores)


def group_pieces(pieces: Sequence[Source], workers: int) -> list[list[tuple[int, Source]]]:
    """Number the pieces and share them out: at least a group for each worker, none with more than 16 pieces."""
    size = max(1, min(_AT_ONCE, -(-len(pieces) // workers)))
    count = -(-len(pieces) // size)
    return [list(enumerate(pieces))[start::count] for start in range(count)]


def _write_listings(
    group: Sequence[tuple[int, Source]], output: str, folder: str, stores: tuple[str, ...]
) -> Iterator[str]:
    use_stores(stores)

    def write(numbered: tuple[int, Source]) -> str:
        number, piece = numbered
        key = f"{folder}/{number:06d}.parquet"
        open_storage(output).write(key, encode_listing(*list_source(piece)))
        return key

    with ThreadPoolExecutor(len(group)) as pool:
        yield from pool.map(write, group)


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
