"""The files of a listing: image references sorted by uri, and beside each a note.

With the notes the driver reads only a range of uris of all files, so that a plan over any number of
images holds a few million of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from transforms import parquet
from transforms.records import REFERENCE_SCHEMA
from transforms.sources.base import Ignored, Source
from transforms.storage import Storage

# References that a listing's worker holds at once: some 0.2 GB
FILE_ROWS = 1 << 20
# Of a row group: ranges are cut, and files read, to within so many
GROUP_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class ListingNote:
    """What a listing file holds."""

    rows: int
    # Other files that were passed over on the way
    ignored: int
    firsts: tuple[str, ...]  # the first uri of each row group
    # The last uri of all; "" for a file without rows
    last: str


def write_listing(piece: Source, storage: Storage, name: str) -> None:
    """List a piece into the files ``name-0000.parquet``, … and their notes; one at least."""
    ignored = Ignored()
    before = 0
    for number, images in enumerate(_grouped(piece.list_images(ignored))):
        write_listing_file(storage, f"{name}-{number:04d}", images, ignored.total - before)
        before = ignored.total


def _grouped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches → tables of at least ``FILE_ROWS`` rows, the last one excepted: it may be empty."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) >= FILE_ROWS:
            yield pa.Table.from_batches(held)
            held = []
    yield pa.Table.from_batches(held, REFERENCE_SCHEMA)


def write_listing_file(storage: Storage, name: str, images: pa.Table, ignored: int) -> None:
    """Write images (REFERENCE_SCHEMA) sorted by uri, and last the note; no run takes them up after a crash."""
    images = images.sort_by("uri")
    encoded = parquet.encode(images, row_group_size=GROUP_ROWS)
    storage.write(f"{name}.parquet", encoded, durable=False)
    firsts = images["uri"].take(pa.array(range(0, images.num_rows, GROUP_ROWS), pa.int64()))
    last = images["uri"][-1].as_py() if images.num_rows else ""
    note = ListingNote(images.num_rows, ignored, tuple(firsts.to_pylist()), last)
    storage.write(f"{name}.json", json.dumps(asdict(note)).encode(), durable=False)


def read_listing_note(encoded: bytes) -> ListingNote:
    """Read a note back."""
    fields = json.loads(encoded)
    return ListingNote(**{**fields, "firsts": tuple(fields["firsts"])})


def read_listing_file(encoded: bytes, groups: list[int]) -> pa.Table:
    """Some row groups of a listing file."""
    return parquet.read(encoded, groups)
