"""Store the files of an index, and get them back where they can be mapped into memory."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.indexing.facts import FOLDER, FileFacts, IndexFacts
from transforms.engines.models import cache_folder
from transforms.errors import first_line
from transforms.storage import Storage, StorageError, is_full, large, local_path
from transforms.storage.large import scratch_folder

# The cells and the sizes of the lists lie in the first bytes of the large file. Wrong ones could
# end the process; wrong bytes behind them only change a score.
HEAD_BYTES = 64 << 20
# Seconds.
_YOUNG = 3600


class IndexDamaged(Exception):
    """A file of an index is missing, or is not what was written; the message is one line."""


def save_file(output: Storage, table: str, name: str, write: Callable[[Path], None]) -> FileFacts:
    """Write a file and store it whole, under a name with its content's hash.

    Args:
        output: Folder of the tables.
        table: Name of the features table.
        name: The name's start and ending, as in ``vectors.faiss``.
        write: Writes the file at a path.

    Raises:
        StorageError: It cannot be written.
    """
    scratch = scratch_folder(output, f"{FOLDER}/{table}")
    temporary = scratch / f".tmp-{uuid.uuid4().hex}"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
        except RuntimeError as error:
            # FAISS says at its end why, as in "(No space left on device)".
            raise StorageError(f"cannot write {temporary}: {_why(error)}") from error
        facts = _describe(temporary, *name.split("."))
        large.store_file(output, f"{FOLDER}/{table}/{facts.name}", temporary)
    except OSError as error:
        raise StorageError(f"cannot write the index to {scratch}: {_why(error)}") from error
    finally:
        # A read-only disk refuses it, even where no file is.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return facts


def _why(error: Exception) -> str:
    if is_full(error):
        return f"{os.strerror(errno.ENOSPC)}; make room there"
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def fetch_file(output: Storage, facts: IndexFacts, file: FileFacts) -> Path:
    """Return a file of an index on this machine; one in a bucket is downloaded once.

    Its size and its first bytes are checked.

    Raises:
        IndexDamaged: It is missing, or is not what was written.
        StorageError: The bucket does not answer.
    """
    key = facts.file_key(file)
    here = local_path(output.url)
    if here:
        path = here / key
    else:
        path = _cache(facts) / file.name
        if not path.exists():
            _download(output, key, file, path)
    _check(path, file, f"{output.url}/{key}")
    return path


def check_whole(output: Storage, facts: IndexFacts, file: FileFacts) -> None:
    """Read a file of an index from its start to its end.

    Raises:
        IndexDamaged: It is missing, or is not what was written.
        StorageError: The bucket does not answer.
    """
    path = fetch_file(output, facts, file)
    if _sha256(path) != file.sha256:
        raise IndexDamaged(f"{output.url}/{facts.file_key(file)} is not what was written")


def forget_others(facts: IndexFacts) -> None:
    """Delete the downloads of earlier indexes of the same table, but none of the last hour.

    Another process may be about to open those. A file that is open stays readable.
    """
    names = {file.name for file in facts.files}
    folder = _cache(facts)
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if path.name not in names and time.time() - path.stat().st_mtime > _YOUNG:
                path.unlink() if path.is_file() else shutil.rmtree(path)


def _cache(facts: IndexFacts) -> Path:
    safe = "".join(letter for letter in facts.table_id if letter.isalnum() or letter == "-")
    return cache_folder().with_name("index") / f"{facts.table}-{safe}"


def _describe(path: Path, start: str, ending: str) -> FileFacts:
    size = path.stat().st_size
    sha256 = _sha256(path)
    head = sha256 if size <= HEAD_BYTES else _sha256(path, HEAD_BYTES)
    return FileFacts(f"{start}-{sha256[:16]}.{ending}", size, sha256, head)


def _sha256(path: Path, length: int | None = None) -> str:
    with path.open("rb") as file:
        if length is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(file.read(length)).hexdigest()


def _check(path: Path, file: FileFacts, shown: str) -> None:
    try:
        size = path.stat().st_size
        if size != file.size:
            raise IndexDamaged(f"{shown} has {size:,} bytes instead of {file.size:,}")
        if _sha256(path, HEAD_BYTES) != file.head_sha256:
            raise IndexDamaged(f"{shown} is not what was written")
    except FileNotFoundError as error:
        raise IndexDamaged(f"{shown} is not there") from error
    except OSError as error:
        raise IndexDamaged(f"{shown} cannot be read: {error.strerror}") from error


def _download(output: Storage, key: str, file: FileFacts, path: Path) -> None:
    """Download a file in chunks, check it whole, and give it its name in the cache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
        try:
            temporary = folder / file.name
            large.fetch_file(output, key, temporary, file.size)
            if _sha256(temporary) != file.sha256:
                raise IndexDamaged(f"{output.url}/{key} is not what was written")
            temporary.replace(path)
        finally:
            with suppress(OSError):
                shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(
            f"cannot keep {output.url}/{key} in {path.parent}: {error.strerror}; make room there, "
            "or name another cache with XDG_CACHE_HOME"
        ) from error
