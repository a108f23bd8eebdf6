"""Store and fetch files that are larger than memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import cast

from transforms.storage.base import Storage, StorageError
from transforms.storage.bucket_storage import BucketStorage
from transforms.storage.urls import local_path

# Bytes of a download that are in memory at once.
_CHUNK = 64 << 20


def scratch_folder(storage: Storage, folder: str = "") -> Path:
    """Return where to write a file before it is stored.

    For a local storage it is the folder itself, so that the file only has to be renamed.

    Args:
        storage: Where the file is to be stored.
        folder: The folder there.
    """
    here = local_path(storage.url)
    return Path(here, folder) if here else Path(tempfile.gettempdir())


def store_file(storage: Storage, key: str, path: Path) -> None:
    """Store a file whole or not at all; a local storage takes the file itself.

    Args:
        storage: Where to.
        key: Its key there.
        path: The file, in ``scratch_folder``.

    Raises:
        OSError: The file cannot be read or renamed.
        StorageError: The bucket does not answer.
    """
    here = local_path(storage.url)
    if here:
        _move_durably(path, Path(here, key))
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Large files are sent in parts; none of them is copied first.
        storage.write(key, cast(bytes, data))


def fetch_file(storage: Storage, key: str, path: Path, size: int) -> Path:
    """Return the path of a stored file; one in a bucket is downloaded.

    Args:
        storage: Where the file is.
        key: Its key there.
        path: Where to download it to.
        size: Its length in bytes.

    Raises:
        NotFound: It is not in the bucket.
        OSError: The download cannot be written.
        StorageError: The bucket does not answer.
    """
    here = local_path(storage.url)
    if here:
        return Path(here, key)
    if not isinstance(storage, BucketStorage):
        raise StorageError(f"{storage.url} is neither a folder nor a bucket")
    full_key = f"{storage.prefix}/{key}".lstrip("/")
    with path.open("wb") as sink:
        for start in range(0, size, _CHUNK):
            sink.write(storage.bucket.get_range(full_key, start, min(_CHUNK, size - start)))
    return path


def _move_durably(temporary: Path, path: Path) -> None:
    for synced in (temporary, path.parent):
        descriptor = os.open(synced, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if synced == temporary:
            temporary.replace(path)
