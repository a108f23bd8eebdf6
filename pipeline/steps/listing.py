"""List the sources on the workers, into files that are read back one range of URIs at a time.

Holds the Beam graph of the listing.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.runners.jobs import Submission
from pipeline.runners.pipeline import new_pipeline, run_failed
from transforms.carried_types import CarriedType, merge
from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.plan import Range, in_range
from transforms.records import LISTING_SCHEMA
from transforms.scratch import temporary_folder
from transforms.sources import Source
from transforms.sources.files import (
    GROUP_ROWS,
    MISTAKE,
    read_listing_file,
    read_listing_note,
    write_listing,
)
from transforms.sources.groups import Group, ListJob, group_pieces, list_group
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

if TYPE_CHECKING:
    import apache_beam as beam

_REQUESTS = 32  # concurrent requests to the storage


class Listing:
    """The image references of the sources, in the files of a folder.

    Raises:
        UserError: A source could not be listed, for a reason that its user can mend.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        names = sorted(
            entry.key for entry in storage.list(f"{folder}/") if entry.key.endswith(".json")
        )
        for name in names:
            if name.endswith(MISTAKE):
                raise UserError(storage.read(name).decode())
        with ThreadPoolExecutor(_REQUESTS) as pool:
            notes = list(pool.map(lambda name: read_listing_note(storage.read(name)), names))
        self._files = {
            name.removesuffix(".json"): note for name, note in zip(names, notes, strict=True)
        }

    @property
    def rows(self) -> int:
        """The number of references; one that is listed twice counts twice."""
        return sum(note.rows for note in self._files.values())

    @property
    def ignored(self) -> int:
        """The number of files in folders and prefixes whose names are not those of images."""
        return sum(note.ignored for note in self._files.values())

    @property
    def containers(self) -> int:
        """The number of containers among the ignored files."""
        return sum(note.containers for note in self._files.values())

    @property
    def carried(self) -> CarriedType:
        """The type of the carried values of all inputs.

        Raises:
            UserError: Two inputs carry values of different types under one name.
        """
        return functools.reduce(merge, (note.carried for note in self._files.values()), None)

    def row_counts(self) -> Iterator[tuple[str, int]]:
        """Yield the first URI and the row count of each row group of the files."""
        for note in self._files.values():
            for number, first in enumerate(note.firsts):
                yield first, min(GROUP_ROWS, note.rows - number * GROUP_ROWS)

    def read(self, within: Range) -> pa.Table:
        """Return the references of a range, from the row groups that may hold some.

        Args:
            within: A range of URIs.

        Returns:
            A table of ``LISTING_SCHEMA``.
        """
        wanted = {}
        for name, note in self._files.items():
            start = max(0, bisect_right(note.firsts, within.low) - 1)
            end = len(note.firsts) if within.high is None else bisect_left(note.firsts, within.high)
            if start < end and note.last >= within.low:
                wanted[name] = list(range(start, end))
        with ThreadPoolExecutor(_REQUESTS) as pool:
            tables = list(pool.map(lambda name: self._read(name, wanted[name], within), wanted))
        return pa.concat_tables([LISTING_SCHEMA.empty_table(), *tables])

    def _read(self, name: str, groups: list[int], within: Range) -> pa.Table:
        return in_range(read_listing_file(self._storage.read(f"{name}.parquet"), groups), within)


@contextmanager
def list_sources(
    sources: Sequence[Source], output: Storage, submission: Submission, stores: Stores = ()
) -> Iterator[Listing]:
    """List all sources on the workers, in parallel by sub-folder or prefix.

    They write files into the watched folder of the run. The end of the block deletes them: they
    would only take room, night after night.

    Args:
        sources: The parsed inputs.
        output: The output.
        submission: Where the workers are, with the folder to watch.
        stores: Where buckets are.

    Raises:
        RunFailed: The listing failed or stalled.
    """
    runner, folder = submission.runner, submission.watch.folder
    pieces = [piece for source in sources for piece in source.split()]
    groups = group_pieces(pieces, runner.workers)
    job = ListJob(output.url, folder, stores)
    with run_failed("the listing"):
        if runner.is_alone:
            submission.do_here(list_group, groups, job)
        else:
            pipeline = new_pipeline(runner, runner.limit_workers(len(groups)))
            _ = pipeline | "List" >> listing(groups, job)
            submission.run(pipeline)
    try:
        yield Listing(output, folder)
    finally:
        keys = [found.key for found in output.list(f"{folder}/")]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            list(pool.map(output.delete, keys))


def listing(groups: Sequence[Group], job: ListJob) -> beam.PTransform:
    """Return the graph of the listing: groups of pieces → the numbers of the listed pieces."""
    import apache_beam as beam

    from transforms.sources.transform import ListImages

    return (
        "Sources" >> beam.Create(groups)
        | "Spread" >> beam.Reshuffle()
        | "ListImages" >> ListImages(job)
    )


@contextmanager
def list_here(sources: Sequence[Source], output: Storage) -> Iterator[Listing]:
    """List all sources in this process for a dry run, without writing into the output."""
    indexes = Indexes(output, write=False)
    pieces = [piece for source in sources for piece in source.split()]
    with temporary_folder() as folder:
        scratch = open_storage(str(folder))
        for number, piece in enumerate(pieces):
            write_listing(piece, scratch, f"listing/{number:06d}", indexes)
        yield Listing(scratch, "listing")


def name_containers(containers: int) -> str:
    """Say how to take in the containers that a folder or prefix holds."""
    return (
        f"{containers:,} containers (tar, zip, TFRecord or Parquet files) were ignored; a folder "
        "gives its loose images only. To take the images in them too, add a glob that ends like "
        "their names: --input 'FOLDER/**/*.tar'"
    )


def nothing_listed(sources: Sequence[Source], listing: Listing, rows: int) -> UserError:
    """Return the error for inputs that hold no image.

    Args:
        sources: The parsed inputs.
        listing: What was listed and ignored.
        rows: How many rows the features table has, and keeps.
    """
    reasons = [source.nothing_found() for source in sources]
    ignored = listing.ignored
    others = f" ({ignored:,} other files, or links to elsewhere, were ignored)" if ignored else ""
    if listing.containers:
        others += f". {name_containers(listing.containers)}"
    kept = (
        f". The table keeps its {rows:,} rows; if the images are really gone, delete the output"
        if rows
        else ""
    )
    return UserError("; ".join(reasons) + others + kept)
