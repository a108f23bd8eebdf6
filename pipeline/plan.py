"""Plan: list the sources with Beam, compare with the tables, cut shards. THE graph of the listing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runner import new_pipeline, run_failed
from pipeline.tables import Table
from transforms.errors import UserError
from transforms.plan import Changes, compare, shard_bounds
from transforms.records import REFERENCE_SCHEMA
from transforms.sources import nothing_found, parse_input, split
from transforms.storage import Storage


@dataclass(frozen=True, slots=True)
class Listing:
    """What the sources hold."""

    images: pa.Table  # REFERENCE_SCHEMA
    ignored: int  # files of folders and prefixes that are no images by their name


def list_sources(inputs: Sequence[str], output: Storage, run_folder: str, beam_args: Sequence[str]) -> Listing:
    """List all inputs, in parallel by sub-folder or prefix, through files in the run's folder."""
    import apache_beam as beam

    from transforms.listing import ListImages

    pieces = [piece for text in inputs for piece in split(parse_input(text))]
    with run_failed("of the listing"), new_pipeline(beam_args) as pipeline:
        _ = (
            pipeline
            | "Sources" >> beam.Create(list(enumerate(pieces)))
            | "Spread" >> beam.Reshuffle()
            | "ListImages" >> ListImages(output.url, f"{run_folder}/listing")
        )
    return read_listing(output, f"{run_folder}/listing")


def list_here(inputs: Sequence[str]) -> Listing:
    """The same without Beam and without writing anything, for a dry run."""
    from transforms.listing import list_source

    return _combine(list_source(piece) for text in inputs for piece in split(parse_input(text)))


def read_listing(output: Storage, folder: str) -> Listing:
    """Read the listing files of a run."""
    from transforms.listing import read_listing_file

    keys = sorted(found.key for found in output.list(f"{folder}/"))
    return _combine(read_listing_file(output.read(key)) for key in keys)


def _combine(files: Iterable[tuple[pa.Table, int]]) -> Listing:
    listed = list(files)
    tables = [table for table, _ in listed] or [REFERENCE_SCHEMA.empty_table()]
    return Listing(pa.concat_tables(tables), sum(ignored for _, ignored in listed))


def find_changes(listing: Listing, features: Table, errors: Table, rebuild: bool) -> Changes:
    """Compare the listing with what the tables know; with ``rebuild`` they know nothing."""
    columns = ["uri", "etag", "size"]
    known_features, known_errors = features.read(columns), errors.read([*columns, "kind"])
    if rebuild:
        known_features, known_errors = known_features.slice(0, 0), known_errors.slice(0, 0)
    return compare(listing.images, known_features, known_errors)


def cut(todo: pa.Table, output: Storage, run_folder: str, shard_size: int, workers: int) -> list[str]:
    """Write the images to do as shards, Parquet files of references; returns their names."""
    names = []
    for number, (start, length) in enumerate(shard_bounds(todo.num_rows, shard_size, workers)):
        names.append(f"shard-{number:05d}")
        sink = pa.BufferOutputStream()
        pq.write_table(todo.slice(start, length), sink, compression="zstd")
        output.write(f"{run_folder}/plan/{names[-1]}.parquet", sink.getvalue().to_pybytes())
    return names


def nothing_listed(inputs: Sequence[str], ignored: int) -> UserError:
    """The error for inputs that hold no image: what was looked for."""
    reasons = [nothing_found(piece) for text in inputs for piece in split(parse_input(text))[:1]]
    return UserError("; ".join(reasons) + (f" ({ignored:,} other files were ignored)" if ignored else ""))
