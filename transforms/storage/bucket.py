"""Buckets: one client for ``s3://``, ``gs://`` and ``az://`` behind raw keys and one-line errors.

The client is obstore (Rust object_store). It retries by itself what may pass: connection errors,
timeouts, 408, 429 and 5xx, and it goes on in the middle of a body that was cut off, refusing to mix
two versions of an object. What it leaves is retried here, see ``transforms.storage.retries``. Where
a bucket is, and how it is asked, is the matter of ``transforms.storage.settings``; no credential is
ever part of a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

import pyarrow as pa

from transforms.storage.base import (
    NotFound,
    PermissionDenied,
    StorageError,
    StoredObject,
    Unaddressable,
)
from transforms.storage.etags import arrived_whole, normal_etag
from transforms.storage.retries import broke_off, wait_before
from transforms.storage.settings import Stores, client_options, open_client, plain_http
from transforms.times import known_times

T = TypeVar("T")
_NO_BUCKET = re.compile(
    r"NoSuchBucket|ContainerNotFound|specified (?:bucket|container) does not exist"
)
_NO_CREDENTIALS = (
    # The last resort of each client is to ask the machine that it runs on
    re.compile(
        r"/latest/(?:api/token|meta-data)|/computeMetadata/|/metadata/identity/|//169\.254\.170\.2|"
        r"Account must be specified"
    )
)
_DENIED = re.compile(
    r"status code: 40[13]\b|<Code>(?:ExpiredToken|InvalidToken|TokenRefreshRequired)</Code>"
)
_HOW_TO_SIGN = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and a key, or AZURE_SKIP_SIGNATURE=true for a public container",
}
_SINGLE_PUT = (
    64 << 20
    # In more bytes, several at once; less leaves no unfinished upload behind when killed
)


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
            etag, data = self._tried(key, partial(self._get, key, check))
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

    def _get(self, key: str, check: Callable[[StoredObject], None] | None) -> tuple[str, bytes]:
        """Return an object's etag and bytes, read once."""
        import obstore

        result = obstore.get(self._client(), _addressable(key))
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

        for attempt in count(1):
            if self._tried(key, create):
                return True
            try:
                return self.get(key) == data
            except NotFound:
                if not wait_before(attempt):
                    raise
        raise AssertionError("unreachable")

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
        """Yield all objects below ``folder`` ("" for all), as columns ``path, last_modified, size, e_tag``.

        A listing that breaks off goes on after the last key that was yielded. Arrow pages cost 0.04
        s for 100,000 objects, Python dictionaries 0.17 s. The client cuts a trailing "/" off: the
        empty "directory" object ``a/`` comes as ``a`` with size 0, and ``head("a")`` is None.
        """
        import obstore

        last, attempt = None, 0
        while True:
            try:
                for page in obstore.list(
                    self._client(), folder, offset=last, chunk_size=rows, return_arrow=True
                ):
                    batch = pa.record_batch(page)
                    yield batch
                    if batch.num_rows:
                        last, attempt = batch["path"][-1].as_py(), 0
            except _client_errors() as error:
                attempt += 1
                self._wait_or_raise(error, folder, attempt)
            else:
                return

    def level(self, folder: str) -> tuple[list[str], pa.Table]:
        """List what lies directly in ``folder``: keys of its sub-folders, and its objects as in ``pages``."""
        import obstore

        def level() -> tuple[list[str], pa.Table]:
            found = obstore.list_with_delimiter(self._client(), folder, return_arrow=True)
            objects = pa.RecordBatchReader.from_stream(
                found["objects"]
                # pa.table would import pandas: 0.12 s
            )
            return list(found["common_prefixes"]), objects.read_all()

        return self._tried(folder, level)

    def _client(self) -> Any:
        return open_client(self.scheme, self.name, self.stores)

    def _tried(self, key: str, request: Callable[[], T]) -> T:
        """Make a request that can be made again."""
        for attempt in count(1):
            try:
                return request()
            except _client_errors() as error:
                self._wait_or_raise(error, key, attempt)
        raise AssertionError("unreachable")

    def _wait_or_raise(self, error: Exception, key: str, attempt: int) -> None:
        if not (broke_off(error) and wait_before(attempt)):
            raise _explain(error, self, key) from error


def _client_errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return BaseError, FileNotFoundError, ValueError


def _stored(meta: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        meta["path"], meta["size"], normal_etag(meta["e_tag"]), meta["last_modified"]
    )


def _addressable(key: str) -> str:
    """Refuse a slash at an end: the client would cut it off and then mean another object."""
    if not key or key != key.strip("/"):
        raise ValueError("Could not parse path")
    return key


def _explain(error: Exception, bucket: Bucket, key: str) -> StorageError:
    """Turn the client's error of many lines into one of ours of one line."""
    text = str(error)
    if isinstance(error, ValueError) or type(error).__name__ == "InvalidPathError":
        if found := re.search(r'path: "(.*)"', text):
            key = found[1]
        return Unaddressable(
            f"the client cannot address {bucket.url(key)!r}: the key has an empty, '.' or '..' "
            "part, a slash at an end or a control character; rename the object, or name other "
            "prefixes that leave it out"
        )
    if _NO_BUCKET.search(text):
        return NotFound(f"the bucket {bucket.url()} does not exist")
    if _NO_CREDENTIALS.search(text):
        return PermissionDenied(f"no credentials for {bucket.url()}: {_HOW_TO_SIGN[bucket.scheme]}")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{bucket.url(key)} is not there")
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError") or _DENIED.search(
        text
    ):
        return PermissionDenied(f"permission denied for {bucket.url(key)}: {_one_line(text)}")
    if "kind: Connect" in text:
        return StorageError(f"{bucket.url(key)}: {_no_connection(text)}")
    return StorageError(f"{bucket.url(key)}: {_one_line(text)}")


def _no_connection(text: str) -> str:
    """Who does not answer, and why: the client says the latter only in what it shows to programmers."""
    host, why, tries = (
        re.search(pattern, text)
        for pattern in (
            r"://(?:[^/\s@]*@)?([^/\s?@]+)",
            r'(?:message|error): "([^"]*)"',
            r"after (\d+ retries)",
        )
    )
    reason = f" ({why[1]})" if why else ""
    return (
        f"no connection to {host[1] if host else 'the store'}{reason}, after "
        f"{tries[1] if tries else 'all tries'}: see that the endpoint is right, and up"
    )


def _one_line(text: str) -> str:
    """Keep the first line and the server's own code; the client has blacked out a URL that holds a secret."""
    code = re.search(r"<Code>(.*?)</Code>", text)
    head = re.split(r"\n\nDebug source|<\?xml|<Error>|\n", text)[0]
    return f"{head.strip(' :')} ({code[1]})" if code else head.strip(" :")


@dataclass(frozen=True, slots=True)
class BucketStorage:
    """A prefix of a bucket."""

    bucket: Bucket
    prefix: str

    @property
    def url(self) -> str:
        return self.bucket.url(self.prefix).rstrip("/")

    @property
    def delta_options(self) -> dict[str, str]:
        return client_options(self.bucket.scheme, self.bucket.name, self.bucket.stores)

    def folder(self, name: str) -> BucketStorage:
        return BucketStorage(self.bucket, self._key(name))

    def read(self, key: str) -> bytes:
        return self.bucket.get(self._key(key))

    def write(self, key: str, data: bytes, *, durable: bool = True) -> None:
        self.bucket.put(self._key(key), data)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        return self.bucket.create(self._key(key), data)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        start = len(self._key(""))
        for page in self.bucket.pages(self._key(prefix).rstrip("/")):
            columns = [page[name].to_pylist() for name in ("path", "size", "e_tag")]
            times = known_times(page["last_modified"]).to_pylist()
            for path, size, etag, modified in zip(*columns, times, strict=True):
                yield StoredObject(path[start:], size, normal_etag(etag), modified)

    def folders(self, prefix: str) -> Sequence[str]:
        found, _ = self.bucket.level(self._key(prefix).rstrip("/"))
        return sorted(key.rstrip("/").rsplit("/", 1)[-1] for key in found)

    def delete(self, key: str) -> None:
        self.bucket.delete(self._key(key))

    def exists(self, key: str) -> bool:
        return self.bucket.head(self._key(key)) is not None

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key
