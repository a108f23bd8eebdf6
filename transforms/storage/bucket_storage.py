"""A prefix of a bucket as a storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transforms.storage.base import StoredObject
from transforms.storage.bucket import Bucket
from transforms.storage.etags import normal_etag
from transforms.storage.settings import client_options
from transforms.times import known_times


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
