"""Parquet files in memory: bytes → tables and back."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read(data: bytes, groups: Sequence[int] | None = None) -> pa.Table:
    """Read a file, or some of its row groups."""
    source = pa.BufferReader(data)
    if groups is None:
        return pq.read_table(source)
    return pq.ParquetFile(source).read_row_groups(list(groups))


def read_metadata(data: bytes) -> dict[bytes, bytes]:
    """Return the keys and values of a file's own metadata."""
    return pq.read_metadata(pa.BufferReader(data)).metadata or {}


def encode(table: pa.Table, **options: Any) -> bytes:
    """Write a table as a file compressed with zstd; ``options`` are pyarrow's ``write_table``'s."""
    # Its bytes come out without a copy, unlike those of Arrow's own stream.
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()
