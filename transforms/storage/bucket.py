"""Buckets: one client for ``s3://``, ``gs://`` and ``az://`` behind raw keys and one-line errors.

The client is obstore (Rust object_store). It retries by itself what may pass: connection errors,
timeouts, 408, 429 and 5xx, and it goes on in the middle of a body that was cut off, refusing to mix
two versions of an object. What it leaves is retried here, see ``transforms.storage.retries``. Where
a bucket is, and how it is asked, is the matter of ``transforms.storage.settings``; no credential is
ever part of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

import pyarrow as pa

from transforms.storage.base import NotFound, StorageError, StoredObject
from transforms.storage.bucket_errors import OutOfRange, client_errors, explain
from transforms.storage.etags import arrived_whole, normal_etag
from transforms.storage.retries import broke_off, retry, wait_before
from transforms.storage.settings import Stores, open_client, plain_http

T = TypeVar("T")
# More bytes are put in parts, several at once. One put leaves no unfinished upload behind when the
# process is killed.
_SINGLE_PUT = 64 << 20


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket or container.

    Methods raise ``StorageError``; the client is opened once a process.
    """

    scheme: str
    name: str
    stores: Stores = ()  # where buckets are

    def url(self, key: str = "") -> str:
        """Return the full URL of a raw key."""
        return f"{self.scheme}://{self.name}/{key}"

    def get(self, key: str, check: Callable[[StoredObject], None] | None = None) -> bytes:
        """Return the whole object.

        ``check`` sees its size and etag before any of its bytes; it may raise.

        What plain http may have changed is read again, see ``transforms.storage.etags``.
        """
        seen: set[str] = set()
        for attempt in count():
            etag, data = self._tried(key, partial(self._get, key, check, None))
            if not plain_http(self.scheme, self.name, self.stores) or arrived_whole(
                etag, data, seen
            ):
                return data
            # Before other bytes take their place
            del data
            if attempt and not wait_before(attempt):
                # Read again at once: mostly the etag is no MD5
                break
        raise StorageError(
            f"{self.url(key)}: the bytes changed on the way, and other ones came each of "
            f"{attempt + 1} times; read over https, or see what lies between this machine and the "
            "store"
        )

    def get_range(
        self,
        key: str,
        start: int,
        length: int,
        check: Callable[[StoredObject], None] | None = None,
    ) -> bytes:
        """Return some bytes of an object; fewer, or none, where it ends before.

        Over plain http nothing notices bytes that changed on the way: the etag is that of the
        whole object.

        Args:
            key: Of the object.
            start: Where to begin, bytes from its start; not negative.
            length: How many bytes.
            check: Sees size and etag of the whole object before any byte; it may raise.
        """
        if length:
            with suppress(OutOfRange):
                request = partial(self._get, key, check, (start, start + length))
                return self._tried(key, request)[1]
        stored = self.head(key)
        if stored is None:
            raise NotFound(f"{self.url(key)} is not there")
        if check:
            check(stored)
        return b""

    def _get(
        self,
        key: str,
        check: Callable[[StoredObject], None] | None,
        part: tuple[int, int] | None,
    ) -> tuple[str, bytes]:
        """Return an object's etag and bytes, read once; ``part`` is the first and the end."""
        import obstore

        options: Any = {"range": part} if part else None
        result = obstore.get(self._client(), _addressable(key), options=options)
        stored = _stored(result.meta)
        if check:
            check(stored)
        return stored.etag, result.bytes().to_bytes()

    def put(self, key: str, data: bytes) -> None:
        """Store whole or not at all, over what was there."""
        import obstore

        parts = len(data) > _SINGLE_PUT
        self._tried(
            key, lambda: obstore.put(self._client(), _addressable(key), data, use_multipart=parts)
        )

    def create(self, key: str, data: bytes) -> bool:
        """Store whole or not at all, if there is none yet; False if other bytes were there already.

        An answer can be lost on its way, and the same request again then meets its own object; so
        an object that holds just these bytes counts as created. S3 also answers that there is one
        when it only could not decide between two writers: then there may be none.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def create() -> bool | None:
            try:
                obstore.put(
                    self._client(), _addressable(key), data, mode="create", use_multipart=False
                )
            except AlreadyExistsError:
                return None
            return True

        attempt = 1
        while not self._tried(key, create):
            try:
                return self.get(key) == data
            except NotFound:
                if not wait_before(attempt):
                    raise
            attempt += 1
        return True

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        import obstore

        def delete() -> None:
            try:
                obstore.delete(self._client(), _addressable(key))
            except FileNotFoundError:
                return

        self._tried(key, delete)

    def head(self, key: str) -> StoredObject | None:
        """Return size and etag of the object, None if there is none."""
        import obstore

        def head() -> StoredObject | None:
            try:
                return _stored(obstore.head(self._client(), _addressable(key)))
            except FileNotFoundError:
                return None

        return self._tried(key, head)

    def pages(self, folder: str, rows: int = 10_000) -> Iterator[pa.RecordBatch]:
        """Yield all objects below ``folder`` ("" for all).

        The columns are ``path, last_modified, size, e_tag``.

        A listing that breaks off goes on after the last key that was yielded. Arrow pages cost 0.04
        s for 100,000 objects, Python dictionaries 0.17 s. The client cuts a trailing "/" off: the
        empty "directory" object ``a/`` comes as ``a`` with size 0, and ``head("a")`` is None.
        """
        import obstore

        last, attempt = None, 1
        while True:
            try:
                for page in obstore.list(
                    self._client(), folder, offset=last, chunk_size=rows, return_arrow=True
                ):
                    batch = pa.record_batch(page)
                    yield batch
                    if batch.num_rows:
                        last, attempt = batch["path"][-1].as_py(), 1
            except client_errors() as error:
                if not (broke_off(error) and wait_before(attempt)):
                    raise explain(error, self.url(), folder) from error
                attempt += 1
            else:
                return

    def level(self, folder: str) -> tuple[list[str], pa.Table]:
        """List what is directly in ``folder``.

        Returns the keys of its sub-folders, and its objects as in ``pages``.
        """
        import obstore

        def level() -> tuple[list[str], pa.Table]:
            found = obstore.list_with_delimiter(self._client(), folder, return_arrow=True)
            # Not pa.table, which would import pandas: 0.12 s.
            objects = pa.RecordBatchReader.from_stream(found["objects"])
            return list(found["common_prefixes"]), objects.read_all()

        return self._tried(folder, level)

    def _client(self) -> Any:
        return open_client(self.scheme, self.name, self.stores)

    def _tried(self, key: str, request: Callable[[], T]) -> T:
        """Make a request that can be made again."""
        try:
            return retry(request, broke_off, client_errors())
        except client_errors() as error:
            raise explain(error, self.url(), key) from error


def _stored(meta: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        meta["path"], meta["size"], normal_etag(meta["e_tag"]), meta["last_modified"]
    )


def _addressable(key: str) -> str:
    """Refuse a slash at an end: the client would cut it off and then mean another object."""
    if not key or key != key.strip("/"):
        raise ValueError("Could not parse path")
    return key
