"""Rows of image references → Arrow batches."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa

from transforms.records import REFERENCE_SCHEMA
from transforms.storage.local import local_etag
from transforms.times import file_microseconds

BATCH_ROWS = 10_000

Row = tuple[
    str, str, int, int | None
    # Uri, etag, size, modified in microseconds since 1970; None where it is unknown
]


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


def local_row(path: str, status: os.stat_result | None) -> Row:
    r"""Make the row of a local path; without a status, or of no file, it is listed to fail in view.

    A name that is not UTF-8 fits no table: its odd bytes are listed as ``\xNN``, to fail as not
    found.
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
    """Make the row of an image of which nothing but its name is known."""
    return uri, "", -1, None
