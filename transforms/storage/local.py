"""Use a folder of this machine as a storage."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from transforms.storage.base import (
    NoRoom,
    NotFound,
    PermissionDenied,
    StorageError,
    StoredObject,
    is_full,
)
from transforms.storage.urls import local_path
from transforms.times import file_time

# Prefix of temporary files, which a killed process may leave behind. They are never listed.
_TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """A local folder, created by the first write."""

    url: str

    @property
    def delta_options(self) -> dict[str, str]:
        return {}

    def folder(self, name: str) -> LocalStorage:
        return LocalStorage(f"{self.url.rstrip('/')}/{name}")

    def read(self, key: str) -> bytes:
        with _translated("read", path := self._path(key)):
            return path.read_bytes()

    def write(self, key: str, data: bytes, *, durable: bool = True) -> None:
        with (
            _translated("write", path := self._path(key)),
            _temporary(path, data, durable=durable) as temporary,
        ):
            temporary.replace(path)
            if durable:
                _sync_folder(path.parent)

    def write_if_absent(self, key: str, data: bytes) -> bool:
        with _translated("write", path := self._path(key)), _temporary(path, data) as temporary:
            try:
                # Unlike a rename, this does not replace an existing file.
                path.hardlink_to(temporary)
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
                for path in (
                    Path(parent, name) for name in sorted(files) if not name.startswith(_TEMPORARY)
                ):
                    # The file may have been deleted since.
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        modified = file_time(status.st_mtime_ns)
                        key = path.relative_to(self.url).as_posix()
                        yield StoredObject(key, status.st_size, local_etag(status), modified)

    def folders(self, prefix: str) -> Sequence[str]:
        folder = self._path(prefix) if prefix.strip("/") else Path(self.url)
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
            raise StorageError(f"{key!r} is not a key inside {self.url}")
        return Path(self.url, *parts)


def local_etag(status: os.stat_result) -> str:
    """Return a local file's etag: modification time in ns and size in bytes, in hexadecimal."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def unlisted(url: str) -> Iterator[StoredObject]:
    """Yield the temporary files that killed processes left in a local folder; a bucket has none."""
    folder = local_path(url)
    for path in sorted(folder.rglob(f"{_TEMPORARY}*")) if folder else ():
        # A process that is still running may delete its file meanwhile.
        with suppress(FileNotFoundError):
            status = path.stat()
            if path.is_file():
                key = path.relative_to(str(folder)).as_posix()
                yield StoredObject(
                    key, status.st_size, local_etag(status), file_time(status.st_mtime_ns)
                )


@contextmanager
def _temporary(path: Path, data: bytes, *, durable: bool = True) -> Iterator[Path]:
    """Write a complete temporary file beside ``path``, and delete it afterwards unless renamed."""
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
    """Make a new name in the folder survive a crash of the machine."""
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
        seen = f"cannot {verb} {path}: {error.strerror}"
        if is_full(error):
            raise NoRoom(f"{seen}; make room there") from error
        kind = PermissionDenied if isinstance(error, PermissionError) else StorageError
        raise kind(seen) from error


def _raise(error: OSError) -> None:
    raise error
