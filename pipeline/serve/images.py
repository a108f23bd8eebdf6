"""Make the pictures of rows, and keep the last ones."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

import pyarrow as pa

from pipeline.retrieval.thumbnails import SIDE, thumbnail
from transforms.choices import MAX_IMAGE_BYTES, MAX_PIXELS
from transforms.containers.index import Indexes
from transforms.containers.locate import locate
from transforms.decode.image import DecodePolicy
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.records import references_of
from transforms.storage import Storage
from transforms.storage.settings import Stores

# Some 5,000 thumbnails.
_CACHE_BYTES = 64 << 20


class Pictures:
    """Makes thumbnails of rows, at most one for each core at a time. Safe for threads.

    Args:
        output: Folder of the tables, where members of containers are looked up.
        stores: Where buckets are.
        cache_bytes: Of thumbnails that stay in memory.
    """

    def __init__(self, output: Storage, stores: Stores, cache_bytes: int = _CACHE_BYTES) -> None:
        self._indexes = Indexes(output, write=False)
        self._stores = stores
        self._max_bytes = cache_bytes
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(os.cpu_count() or 1)
        self.size = 0  # bytes of the thumbnails in memory

    def of(self, row: pa.Table) -> bytes:
        """Return the picture of a row as a JPEG.

        Args:
            row: COLUMNS of the library [1].

        Raises:
            ImageError: The image is not there any more, has changed, or cannot be decoded.
            StorageError: A container cannot be read.
        """
        (facts,) = row.select(["uri", "etag"]).to_pylist()
        key = (facts["uri"], facts["etag"])
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._turns:
            made = self._make(row)
        self._keep(key, made)
        return made

    def _make(self, row: pa.Table) -> bytes:
        """Read and decode within the limits; a row that is larger was made with larger limits."""
        (facts,) = row.select(["size", "width", "height"]).to_pylist()
        max_bytes = max(MAX_IMAGE_BYTES, facts["size"])
        pixels = max(MAX_PIXELS, (facts["width"] or 0) * (facts["height"] or 0))
        found = locate(references_of(row), self._stores, self._indexes)
        item = next(read_images(found, ReadPolicy(max_bytes=max_bytes, stores=self._stores)))
        if not isinstance(item, EncodedImage):
            raise item[1]
        return thumbnail(item.data, SIDE, DecodePolicy(max_bytes, pixels))

    def _keep(self, key: tuple[str, str], picture: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = picture
                self.size += len(picture)
            while self.size > self._max_bytes:
                self.size -= len(self._kept.popitem(last=False)[1])
