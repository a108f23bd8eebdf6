"""List the images that a manifest names: a table with a column of paths or URLs.

``metadata.csv`` and ``metadata.jsonl`` of an image folder (Hugging Face's ``imagefolder``) are
manifests too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from transforms.carried import NOTHING, Carry
from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.file_names import Ignored
from transforms.sources.batches import BATCH_ROWS, to_batches, with_sources
from transforms.sources.lists import Entries, entry_below
from transforms.sources.manifest_files import read_table
from transforms.storage.etags import normal_etag
from transforms.storage.settings import Stores

# Columns that name the image, by the conventions of ``datasets``, img2dataset and others.
URI_COLUMNS = ("uri", "url", "path", "file_name", "image_path")
# What a store says of an image. With both, no image is asked for.
_ETAG, _SIZE = "etag", "size"
# Named in a message.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Manifest:
    """Some rows of a manifest."""

    # As the user wrote it.
    text: str
    # Absolute paths and full URLs.
    uris: tuple[str, ...]
    # Etag and size of each image, where the manifest has both; otherwise the storage is asked.
    known: tuple[tuple[str, int], ...] | None
    # Carried values of each image; None if none are carried.
    sources: tuple[str | None, ...] | None = None
    stores: Stores = ()

    def split(self) -> list[Manifest]:
        return [
            replace(
                self,
                uris=self.uris[start : start + BATCH_ROWS],
                known=self.known and self.known[start : start + BATCH_ROWS],
                sources=self.sources and self.sources[start : start + BATCH_ROWS],
            )
            for start in range(0, len(self.uris), BATCH_ROWS)
        ]

    def list_images(
        self, ignored: Ignored | None = None, indexes: Indexes | None = None
    ) -> Iterator[pa.RecordBatch]:
        """List the images in their order, one for each row of the manifest."""
        for piece in self.split():
            # A piece is one batch.
            (batch,) = piece._batches()
            yield batch if piece.sources is None else with_sources(batch, piece.sources)

    def nothing_found(self) -> str:
        return f"{self.text} names no image"

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self.known is None:
            return Entries(self.text, self.uris, self.stores).list_images()
        rows = zip(self.uris, self.known, strict=True)
        return to_batches((uri, etag, size, None) for uri, (etag, size) in rows)


def parse_manifest(
    text: str, stores: Stores = (), uri_column: str | None = None, carry: Carry = NOTHING
) -> Manifest:
    """Read a manifest.

    Relative paths start from the manifest's own folder. A manifest in a bucket may only name
    objects of the same bucket, as a list.

    Args:
        text: ``manifest:FILE`` or ``manifest:URL``.
        stores: Where buckets are.
        uri_column: Column that names the images; None for the first of ``URI_COLUMNS``.
        carry: The columns to carry.

    Raises:
        UserError: A file that cannot be read or has no such column, or an invalid entry, by row.
    """
    name = text.removeprefix("manifest:")
    texts = [*URI_COLUMNS, _ETAG, *([uri_column] if uri_column else [])]
    table = read_table(name, texts, stores)
    column = _uri_column(text, table.column_names, uri_column)
    entries = _strings(text, table, column)
    if not entries:
        raise UserError(f"{text} names no image; it has no rows")
    uris = []
    for number, entry in enumerate(entries, 1):
        try:
            uris.append(entry_below(entry, name))
        except UserError as error:
            raise UserError(f"{text}, row {number}, column {column}: {error}") from error
    sources = _sources(text, table, column, carry)
    return Manifest(text, tuple(uris), _known(text, table), sources, stores)


def _uri_column(text: str, columns: Sequence[str], chosen: str | None) -> str:
    found = chosen or next((name for name in URI_COLUMNS if name in columns), None)
    if found is None or found not in columns:
        what = (
            f"no column {chosen!r}" if chosen else f"none of the columns {', '.join(URI_COLUMNS)}"
        )
        there = ", ".join(columns[:_SHOWN]) or "none"
        raise UserError(
            f"{text} has {what}; it has {there}; name the one with the images' paths or URLs by "
            "--uri-column"
        )
    return found


def _strings(text: str, table: pa.Table, column: str) -> list[str]:
    _require_once(text, table, column)
    values = table[column]
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise UserError(f"{text}: the column {column!r} holds {values.type}; it has to hold text")
    strings: list[str] = values.to_pylist()
    if None in strings or "" in strings:
        row = next(number for number, value in enumerate(strings, 1) if not value)
        raise UserError(f"{text}, row {row}: the column {column!r} is empty")
    return strings


def _require_once(text: str, table: pa.Table, column: str) -> None:
    if table.column_names.count(column) > 1:
        raise UserError(f"{text} has the column {column!r} twice; rename one of them")


def _known(text: str, table: pa.Table) -> tuple[tuple[str, int], ...] | None:
    """Return each image's etag and size by the manifest; None unless it has all of them."""
    if not {_ETAG, _SIZE} <= set(table.column_names):
        return None
    _require_once(text, table, _ETAG)
    _require_once(text, table, _SIZE)
    if pa.types.is_null(table[_SIZE].type):
        return None
    if not pa.types.is_integer(table[_SIZE].type):
        raise UserError(f"{text}: the column 'size' holds {table[_SIZE].type}; it has to be bytes")
    etags, sizes = table[_ETAG].cast(pa.string()).to_pylist(), table[_SIZE].to_pylist()
    if None in etags or None in sizes or "" in etags or min(sizes) < 0:
        return None
    return tuple(zip(map(normal_etag, etags), sizes, strict=True))


def _sources(
    text: str, table: pa.Table, uri_column: str, carry: Carry
) -> tuple[str | None, ...] | None:
    """Return the carried values of each row as JSON."""
    if not carry:
        return None
    others = [name for name in table.column_names if name != uri_column]
    missing = set() if carry.everything else set(carry.names) - set(others)
    if missing:
        there = ", ".join(others[:_SHOWN]) or "none"
        raise UserError(f"--carry: {text} has no column {min(missing)!r} to carry; it has {there}")
    taken = [name for name in others if carry.takes(name)]
    for name in taken:
        _require_once(text, table, name)
    rows = table.select(taken).to_pylist()
    return tuple(map(carry.encode, rows))
