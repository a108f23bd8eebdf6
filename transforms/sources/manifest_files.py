"""Read the columns of a manifest: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from transforms.errors import UserError, first_line
from transforms.storage import StorageError, local_path
from transforms.storage.bucket import Bucket
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url

_CSV = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
FORMATS = (*_CSV, *_JSON, ".parquet")


def read_table(name: str, texts: Sequence[str], stores: Stores) -> pa.Table:
    """Read a whole manifest.

    Args:
        name: Path or URL; its extension tells the format.
        texts: Columns that are text, whatever they look like: an etag may have digits only.
        stores: Where buckets are.

    Raises:
        UserError: The file is missing, or is not what its extension says.
    """
    extension = next((end for end in FORMATS if name.lower().endswith(end)), None)
    if extension is None:
        raise UserError(
            f"manifest:{name}: a manifest is a file that ends in one of {' '.join(FORMATS)}"
        )
    encoded = _read(name, stores)
    if extension != ".parquet":
        _check_utf8(name, encoded)
    data = pa.BufferReader(encoded)
    try:
        if extension in _CSV:
            return _read_csv(data, _CSV[extension], texts)
        if extension in _JSON:
            return _read_json(data)
        import pyarrow.parquet as pq

        return pq.read_table(data)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"manifest:{name} cannot be read: {first_line(error)}") from error


def _check_utf8(name: str, encoded: bytes) -> None:
    """Refuse other text: pyarrow would take its columns for bytes, which nothing carries."""
    try:
        encoded.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"manifest:{name} is not UTF-8 at byte {error.start:,}; save it as UTF-8"
        ) from error


def _read_csv(data: pa.BufferReader, delimiter: str, texts: Sequence[str]) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        data,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(texts, pa.string()),
            strings_can_be_null=True,
            # Words such as "NA" and "null" are values: captions, or names of files.
            null_values=[""],
        ),
    )


def _read_json(data: pa.BufferReader) -> pa.Table:
    from pyarrow import json

    # A line has to fit into a block.
    return json.read_json(data, read_options=json.ReadOptions(block_size=16 << 20))


def _read(name: str, stores: Stores) -> bytes:
    path = local_path(name)
    try:
        if path is not None:
            return path.read_bytes()
        scheme, bucket, key = parse_url(name)
        return Bucket(scheme, bucket, stores).get(key)
    except OSError as error:
        raise UserError(f"cannot read the manifest {path}: {error.strerror}") from error
    except StorageError as error:
        raise UserError(f"cannot read the manifest: {error}") from error
