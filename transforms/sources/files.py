"""Write and read the files of a listing: image references sorted by uri, and a note for each file.

The notes let the driver read one range of uris from all files, so that a plan over any number of
images holds only a few million of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from transforms import parquet
from transforms.carried_types import CarriedType, type_of
from transforms.containers.index import Indexes
from transforms.file_names import Ignored
from transforms.records import LISTING_SCHEMA
from transforms.sources.base import Source
from transforms.storage import Storage

# References that a worker holds at once while it lists: some 0.2 GB.
FILE_ROWS = 1 << 20
# End of the key of a file that holds the message of a ``UserError``.
MISTAKE = "-mistake.json"
# Rows of a row group, the unit in which ranges are cut and files are read.
GROUP_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class ListingNote:
    """Summary of a listing file."""

    rows: int
    # Number of entries that were ignored while listing these rows.
    ignored: int
    # First uri of each row group.
    firsts: tuple[str, ...]
    # Last uri; "" for a file without rows.
    last: str
    # Number of ignored entries that are containers.
    containers: int = 0
    # Type of the carried values (``transforms.carried``).
    carried: CarriedType = None


def write_listing(
    piece: Source, storage: Storage, name: str, indexes: Indexes | None = None
) -> None:
    """List a piece into at least one file, each with its note.

    Args:
        piece: The source to list.
        storage: Where to write.
        name: Start of the keys: ``name-0000.parquet``, ``name-0000.json``, ….
        indexes: Where the members of containers are kept.

    Raises:
        UserError: If a local path of the source does not exist.
        StorageError: If listing or writing fails.
    """
    ignored = Ignored()
    before = Ignored()
    for number, images in enumerate(_grouped(piece.list_images(ignored, indexes))):
        more = ignored.since(before)
        write_listing_file(storage, f"{name}-{number:04d}", images, more.total, more.containers)
        before.add(more)


def _grouped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join batches into tables of at least ``FILE_ROWS`` rows; the last may have fewer, or none."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(_with_all_columns(batch))
        if sum(b.num_rows for b in held) >= FILE_ROWS:
            yield pa.Table.from_batches(held)
            held = []
    yield pa.Table.from_batches(held, LISTING_SCHEMA)


def _with_all_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add the columns that a batch of whole files lacks."""
    if batch.num_columns == len(LISTING_SCHEMA):
        return batch
    fields = list(LISTING_SCHEMA)[batch.num_columns :]
    columns = [*batch.columns, *(pa.nulls(batch.num_rows, field.type) for field in fields)]
    return pa.RecordBatch.from_arrays(columns, schema=LISTING_SCHEMA)


def write_listing_file(
    storage: Storage, name: str, images: pa.Table, ignored: int, containers: int = 0
) -> None:
    """Write one listing file, sorted by uri, and then its note.

    The files are not durable: no run resumes from them after a crash.

    Args:
        storage: Where to write.
        name: Key of the files, without extension.
        images: LISTING_SCHEMA, in any order.
        ignored: Number of entries that were ignored while listing the images.
        containers: Number of containers among them.
    """
    images = images.sort_by("uri")
    encoded = parquet.encode(images, row_group_size=GROUP_ROWS)
    storage.write(f"{name}.parquet", encoded, durable=False)
    firsts = images["uri"].take(pa.array(range(0, images.num_rows, GROUP_ROWS), pa.int64()))
    carried = type_of(zip(images["uri"].to_pylist(), images["source"].to_pylist(), strict=True))
    last = images["uri"][-1].as_py() if images.num_rows else ""
    note = ListingNote(
        images.num_rows, ignored, tuple(firsts.to_pylist()), last, containers, carried
    )
    storage.write(f"{name}.json", json.dumps(asdict(note)).encode(), durable=False)


def read_listing_note(encoded: bytes) -> ListingNote:
    """Decode a note."""
    fields = json.loads(encoded)
    return ListingNote(**{**fields, "firsts": tuple(fields["firsts"])})


def read_listing_file(encoded: bytes, groups: list[int]) -> pa.Table:
    """Return the rows (LISTING_SCHEMA) of some row groups of a listing file.

    Args:
        encoded: The whole file.
        groups: Positions of the row groups.
    """
    return parquet.read(encoded, groups)
