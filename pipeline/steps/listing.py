"""List the sources with Beam, into files that are read back range by range.

THE graph of the listing.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa

from pipeline.runners.jobs import Submission
from pipeline.runners.pipeline import new_pipeline, run_failed
from transforms.errors import UserError
from transforms.plan import Range, in_range
from transforms.records import REFERENCE_SCHEMA
from transforms.sources import Source
from transforms.sources.files import GROUP_ROWS, read_listing_file, read_listing_note, write_listing
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

_REQUESTS = 32  # to the storage at once


class Listing:
    """What the sources hold, in the files of a folder."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        names = sorted(
            entry.key for entry in storage.list(f"{folder}/") if entry.key.endswith(".json")
        )
        with ThreadPoolExecutor(_REQUESTS) as pool:
            notes = list(pool.map(lambda name: read_listing_note(storage.read(name)), names))
        self._files = {
            name.removesuffix(".json"): note for name, note in zip(names, notes, strict=True)
        }

    @property
    def rows(self) -> int:
        """References, counted as often as they are listed."""
        return sum(note.rows for note in self._files.values())

    @property
    def ignored(self) -> int:
        """Files of folders and prefixes that are no images by their name."""
        return sum(note.ignored for note in self._files.values())

    def spread(self) -> Iterator[tuple[str, int]]:
        """The first uri of each row group of the files, and the group's rows."""
        for note in self._files.values():
            for number, first in enumerate(note.firsts):
                yield first, min(GROUP_ROWS, note.rows - number * GROUP_ROWS)

    def read(self, within: Range) -> pa.Table:
        """The references of a range (REFERENCE_SCHEMA), from the row groups that may hold some."""
        wanted = {}
        for name, note in self._files.items():
            start = max(0, bisect_right(note.firsts, within.low) - 1)
            end = len(note.firsts) if within.high is None else bisect_left(note.firsts, within.high)
            if start < end and note.last >= within.low:
                wanted[name] = list(range(start, end))
        with ThreadPoolExecutor(_REQUESTS) as pool:
            tables = list(pool.map(lambda name: self._read(name, wanted[name], within), wanted))
        return pa.concat_tables([REFERENCE_SCHEMA.empty_table(), *tables])

    def _read(self, name: str, groups: list[int], within: Range) -> pa.Table:
        return in_range(read_listing_file(self._storage.read(f"{name}.parquet"), groups), within)


@contextmanager
def list_sources(
    sources: Sequence[Source], output: Storage, submission: Submission, stores: Stores = ()
) -> Iterator[Listing]:
    """List all sources, in parallel by sub-folder or prefix, through files in the watched folder of the run.

    The files are deleted at the end of the block: they would only take room, night after night.
    """
    import apache_beam as beam

    from transforms.sources.transform import ListImages, group_pieces

    folder = submission.watch.folder
    pieces = [piece for source in sources for piece in source.split()]
    groups = group_pieces(pieces, submission.runner.workers)
    with run_failed("the listing"):
        pipeline = new_pipeline(submission.runner, submission.runner.limit_workers(len(groups)))
        _ = (
            pipeline
            | "Sources" >> beam.Create(groups)
            | "Spread" >> beam.Reshuffle()
            | "ListImages" >> ListImages(output.url, folder, stores)
        )
        submission.run(pipeline)
    try:
        yield Listing(output, folder)
    finally:
        keys = [found.key for found in output.list(f"{folder}/")]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            list(pool.map(output.delete, keys))


@contextmanager
def list_here(sources: Sequence[Source]) -> Iterator[Listing]:
    """The same without Beam and without writing anything into the output, for a dry run."""
    pieces = [piece for source in sources for piece in source.split()]
    with tempfile.TemporaryDirectory(prefix="image-features-listing-") as folder:
        scratch = open_storage(folder)
        for number, piece in enumerate(pieces):
            write_listing(piece, scratch, f"listing/{number:06d}")
        yield Listing(scratch, "listing")


def nothing_listed(sources: Sequence[Source], ignored: int, rows: int) -> UserError:
    """The error for inputs that hold no image: what was looked for, and that the table keeps its ``rows``."""
    reasons = [source.nothing_found() for source in sources]
    others = f" ({ignored:,} other files, or links to elsewhere, were ignored)" if ignored else ""
    kept = (
        f". The table keeps its {rows:,} rows; if the images are really gone, delete the output"
        if rows
        else ""
    )
    return UserError("; ".join(reasons) + others + kept)
