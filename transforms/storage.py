"""Storage: a folder, local or in a bucket, that is read and written whole objects at a time.

Keys are relative, separated by "/" and raw: never percent-encoded, whatever characters they hold.
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from transforms.buckets import (
    Bucket,
    NotFound,
    PermissionDenied,
    StorageError,
    StoredObject,
    Unaddressable,
)
from transforms.errors import UserError
from transforms.etags import normal_etag
from transforms.stores import client_options
from transforms.times import file_time, known_times
from transforms.urls import parse_url, scheme_of

__all__ = [
    "NotFound",
    "PermissionDenied",
    "Storage",
    "StorageError",
    "StoredObject",
    "Unaddressable",
    "local_path",
    "open_storage",
    "storage_options",
]

_TEMPORARY = ".tmp-"  # what a killed process may leave behind; never listed


class Storage(Protocol):
    """A folder, local or remote. Its methods raise ``NotFound``, ``PermissionDenied`` or ``StorageError``."""

    @property
    def url(self) -> str:
        """Absolute path or URL, without a slash at its end."""

    def read(self, key: str) -> bytes:
        """Return the whole object."""

    def write(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store whole or not at all, over what was there.

        What nobody wants after a crash of the machine need not be ``durable``: nothing waits for the disk then.
        """

    def write_if_absent(self, key: str, data: bytes) -> bool:
        """Store whole or not at all; False, and nothing changed, if the key was there already.

        Of several at once exactly one gets True. In a bucket also those get it that bring the very same bytes:
        they are not to be told from a request whose answer was lost on its way.
        """

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield all objects below the folder ``prefix`` at any depth; none if there is no such folder."""

    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders directly in ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object with this key."""


def open_storage(url: str) -> Storage:
    """Return the storage at a path, ``file://``, ``s3://``, ``gs://`` or ``az://``; nothing is asked yet.

    Raises ``UserError`` for any other scheme and for a URL without bucket.
    """
    folder = local_path(url)
    if folder is not None:
        return LocalStorage(str(folder))
    scheme, bucket, prefix = parse_url(url)
    return BucketStorage(Bucket(scheme, bucket), prefix.strip("/"))


def storage_options(url: str) -> dict[str, str]:
    """Return what deltalake does not read from the environment itself: endpoint, plain http, region."""
    return client_options(*parse_url(url)[:2]) if local_path(url) is None else {}


def local_path(url: str) -> Path | None:
    """Return the absolute local path that a path or ``file://`` URL means, None for a bucket.

    A ``file://`` URL is percent-decoded unless it is, as it stands, the name of something on disk.
    Raises ``UserError``.
    """
    if not url or "\0" in url:
        raise UserError(f"{url!r} is no path; give a folder or a URL")
    scheme = scheme_of(url)
    if not scheme:
        return _absolute(url)
    if scheme != "file":
        return None
    raw = re.sub(r"^file://(?:localhost)?(?=/)", "", url)
    if not raw.startswith("/"):
        raise UserError(f"{url!r} is no local file; write file:///absolute/path")
    return _absolute(raw if os.path.lexists(raw) else unquote(raw))


def _absolute(path: str) -> Path:
    """Make absolute and drop ``..``; links stay, but one before a ``..`` is followed first."""
    cut = os.path.abspath(path)  # noqa: PTH100  (Path.resolve would follow all symbolic links)
    up = re.match(r"(.*(?:^|/)\.\.)(?:/|$)(.*)", path, re.DOTALL)
    if not up or os.path.realpath(path) == os.path.realpath(cut):
        return Path(cut)
    return Path(os.path.realpath(up[1]), up[2])


def local_etag(status: os.stat_result) -> str:
    """Return a local file's etag: its time of modification in nanoseconds and its size, in hexadecimal."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """A local folder; made when first written to."""

    url: str

    def read(self, key: str) -> bytes:
        with _translated("read", path := self._path(key)):
            return path.read_bytes()

    def write(self, key: str, data: bytes, *, durable: bool = True) -> None:
        with _translated("write", path := self._path(key)), _temporary(path, data, durable=durable) as temporary:
            temporary.replace(path)
            if durable:
                _sync_folder(path.parent)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        with _translated("write", path := self._path(key)), _temporary(path, data) as temporary:
            try:
                path.hardlink_to(temporary)  # unlike a rename it refuses to replace
            except FileExistsError:
                return False
            _sync_folder(path.parent)
            return True

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        folder = self._path(prefix) if prefix.strip("/") else Path(self.url)
        if not folder.is_dir():
            return
        with _translated("list", folder):
            for parent, folders, files in os.walk(folder, onerror=_raise):
                folders.sort()
                for path in (Path(parent, name) for name in sorted(files) if not name.startswith(_TEMPORARY)):
                    with suppress(FileNotFoundError):  # deleted since
                        status = path.stat()
                        modified = file_time(status.st_mtime_ns)
                        key = path.relative_to(self.url).as_posix()
                        yield StoredObject(key, status.st_size, local_etag(status), modified)

    def folders(self, prefix: str) -> Sequence[str]:
        folder = self._path(prefix)
        if not folder.is_dir():
            return []
        with _translated("list", folder):
            return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def delete(self, key: str) -> None:
        with _translated("delete", path := self._path(key)):
            path.unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def _path(self, key: str) -> Path:
        parts = key.strip("/").split("/")
        if ".." in parts or key.startswith("/") or "\0" in key or not parts[0]:
            raise StorageError(f"{key!r} is no key inside {self.url}")
        return Path(self.url, *parts)


@dataclass(frozen=True, slots=True)
class BucketStorage:
    """A prefix of a bucket."""

    bucket: Bucket
    prefix: str

    @property
    def url(self) -> str:
        return self.bucket.url(self.prefix).rstrip("/")

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


@contextmanager
def _temporary(path: Path, data: bytes, *, durable: bool = True) -> Iterator[Path]:
    """Make a complete file beside ``path``, gone afterwards unless renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{path} is not there") from error
    except OSError as error:
        kind = PermissionDenied if isinstance(error, PermissionError) else StorageError
        what_to_do = "; make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise kind(f"cannot {verb} {path}: {error.strerror}{what_to_do}") from error


def _raise(error: OSError) -> None:
    raise error


def unlisted(url: str) -> Iterator[StoredObject]:
    """Yield what ``list`` leaves out: what killed processes left in a local folder. A bucket has no such files."""
    folder = local_path(url)
    for path in sorted(folder.rglob(f"{_TEMPORARY}*")) if folder else ():
        with suppress(FileNotFoundError):  # it was at work, and is done
            status = path.stat()
            if path.is_file():
                key = path.relative_to(str(folder)).as_posix()
                yield StoredObject(key, status.st_size, local_etag(status), file_time(status.st_mtime_ns))
