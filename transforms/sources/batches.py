"""Turn rows of image references into Arrow batches."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from transforms.records import LISTING_SCHEMA, REFERENCE_SCHEMA
from transforms.storage.local import local_etag
from transforms.times import file_microseconds, known_times

BATCH_ROWS = 10_000

# Uri, etag, size in bytes (-1 if unknown), time of modification in microseconds since 1970 (None if
# unknown).
Row = tuple[str, str, int, int | None]


def to_batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Cut rows into batches of REFERENCE_SCHEMA with up to 10,000 rows."""
    remaining = iter(rows)
    while block := list(islice(remaining, BATCH_ROWS)):
        columns = zip(*block, strict=True)
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, REFERENCE_SCHEMA, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=REFERENCE_SCHEMA)


def with_sources(batch: pa.RecordBatch, sources: Sequence[str | None]) -> pa.RecordBatch:
    """Add carried values to a batch of whole files; the result has LISTING_SCHEMA."""
    count = batch.num_rows
    member, source, content = list(LISTING_SCHEMA)[batch.num_columns :]
    added = [
        pa.nulls(count, member.type),
        pa.array(sources, source.type),
        pa.nulls(count, content.type),
    ]
    return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=LISTING_SCHEMA)


def local_row(path: str, status: os.stat_result | None) -> Row:
    r"""Return the row of a local path.

    A name that is not UTF-8 fits no table: its invalid bytes are listed as ``\xNN``, so that the
    image fails as not found.

    Args:
        path: Absolute path.
        status: Of the path; if it is None, or not that of a file, the row is one of an unknown
            image, which will fail.
    """
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            path, status = os.fsencode(path).decode(errors="backslashreplace"), None
    if status is None or not stat.S_ISREG(status.st_mode):
        return unknown_row(path)
    return path, local_etag(status), status.st_size, file_microseconds(status.st_mtime_ns)


def unknown_row(uri: str) -> Row:
    """Return the row of an image of which only the name is known."""
    return uri, "", -1, None


def bucket_batch(page: pa.RecordBatch, bucket: str) -> pa.RecordBatch:
    """Turn objects of a bucket into a batch of REFERENCE_SCHEMA.

    Args:
        page: Columns ``path, e_tag, size, last_modified`` of a bucket's listing.
        bucket: The bucket's URL, up to the key.
    """
    uri = pc.binary_join_element_wise(bucket, page["path"].cast(pa.string()), "")
    etag = pc.fill_null(page["e_tag"].cast(pa.string()), "")
    # The same normal form as of ``normal_etag``.
    etag = pc.utf8_trim(pc.replace_substring_regex(etag, "^W/", ""), '"')
    arrays = [uri, etag, page["size"].cast(pa.int64()), known_times(page["last_modified"])]
    return pa.RecordBatch.from_arrays(arrays, schema=REFERENCE_SCHEMA)
