"""Exported networks: kept in the user's cache and in the output, loaded by workers."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from transforms.engines.base import read_network
from transforms.scratch import PREFIX, no_temporary_folder
from transforms.storage import NotFound, Storage, StorageError, local_path

_LOG = logging.getLogger(__name__)
_FACTS = "model.json"
_OTHERS = ("golden.npz", _FACTS)
# Of the network's files and the others, as coreutils writes it. It is written last: a folder whose
# sums are right is whole.
_SUMS = "SHA256SUMS"
_DAY = 86_400
# Networks for which no cache can be written, by their ids.
_of_process: dict[str, tempfile.TemporaryDirectory[str]] = {}
_filling = threading.Lock()


def cache_folder() -> Path:
    """Return the cache of exports: ``image-features`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "image-features" / "models"


def cached_model(model_id: str, fill: Callable[[Path], None]) -> Path:
    """Return the cached folder of ``model_id``; ``fill(folder)`` writes a missing or damaged one.

    Processes that fill it at once do not disturb each other: the first rename wins. Where no cache
    can be written (a read-only home), a folder serves that is deleted when this process ends.

    Raises:
        StorageError: The disk is full, or no folder can be written.
    """
    folder = cache_folder() / model_id
    if is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _delete_scratch(folder.parent)
        scratch = Path(tempfile.mkdtemp(prefix=f"{model_id[:12]}-", dir=folder.parent))
    except OSError:
        return _model_of_process(model_id, fill)
    try:
        fill(scratch)
        seal(scratch)
        # Let other users of a shared cache read it: mkdtemp makes a folder for one user.
        scratch.chmod(0o755)
        if folder.exists() and not is_whole(folder):
            _LOG.warning("the network in %s is not what was exported; it is made anew", folder)
            shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    except OSError as error:
        if not is_whole(folder):
            what = (
                f"cannot write the exported network to {folder.parent}: {error.strerror or error}"
            )
            raise StorageError(
                f"{what}; make room there, or name another cache with XDG_CACHE_HOME"
            ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _model_of_process(model_id: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder with a network for this process alone, which fills it once."""
    with _filling:
        held = _of_process.get(model_id)
        if held is None or not is_whole(Path(held.name)):
            try:
                held = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
                fill(Path(held.name))
                seal(Path(held.name))
            except OSError as error:
                raise no_temporary_folder(error) from error
            _of_process[model_id] = held
    return Path(held.name)


def _delete_scratch(cache: Path) -> None:
    """Delete what killed processes left in the cache: folders that are older than a day."""
    for scratch in cache.glob("?" * 12 + "-*"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _DAY:
                shutil.rmtree(scratch)


def seal(folder: Path) -> None:
    """Write the sums of an exported folder, and have all of it outlive a crash of the machine."""
    (folder / _SUMS).write_bytes(_sums(folder))
    for path in (*(folder / name for name in (*_files(folder), _SUMS)), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sums_of(folder: Path) -> bytes | None:
    """Return the sums of an exported folder as they are written there; None where none are."""
    try:
        return (folder / _SUMS).read_bytes()
    except OSError:
        return None


def is_whole(folder: Path) -> bool:
    """Tell whether a folder holds an exported network just as it was written.

    Reads it whole: 1 s a gigabyte.
    """
    try:
        return (folder / _SUMS).read_bytes() == _sums(folder)
    # Also one that another user wrote, or one with a folder in the place of a file.
    except (OSError, ValueError):
        return False


def saved_keys(output: Storage, model_id: str) -> list[str] | None:
    """Return the keys of the files of a whole export in the output; None if there is none."""
    if not _is_saved(output, model_id):
        return None
    network = read_network(output.read(f"models/{model_id}/{_FACTS}"))
    return [f"models/{model_id}/{name}" for name in (*network.files, *_OTHERS, _SUMS)]


def save_model(output: Storage, model_id: str, folder: Path) -> list[str]:
    """Copy an exported folder to ``OUTPUT/models/<model_id>/`` unless a whole one is there.

    Returns the keys of its files there.
    """
    if saved := saved_keys(output, model_id):
        return saved
    if not (folder / _SUMS).exists():
        seal(folder)
    keys = {f"models/{model_id}/{name}": folder / name for name in (*_files(folder), _SUMS)}
    for key, path in keys.items():
        output.write(key, path.read_bytes())
    return list(keys)


def load_model(output: Storage, model_id: str) -> Path:
    """Return the exported folder on this machine; fetch it once from a bucket.

    Raises:
        StorageError: It is not what was exported.
    """
    directory = local_path(output.url)
    if directory is not None:
        folder = directory / "models" / model_id
        if not is_whole(folder):
            raise StorageError(_damaged(output, model_id))
        return folder

    def fetch(folder: Path) -> None:
        facts = output.read(f"models/{model_id}/{_FACTS}")
        try:
            network = read_network(facts)
        except ValueError as error:
            raise StorageError(_damaged(output, model_id)) from error
        for name in (*network.files, *_OTHERS, _SUMS):
            (folder / name).write_bytes(output.read(f"models/{model_id}/{name}"))
        if not is_whole(folder):
            raise StorageError(_damaged(output, model_id))

    return cached_model(model_id, fetch)


def _damaged(output: Storage, model_id: str) -> str:
    return (
        f"the network in {output.url}/models/{model_id} is not what was exported; delete that "
        "folder and start again"
    )


def _is_saved(output: Storage, model_id: str) -> bool:
    """Tell whether the output has the network, and whole.

    A bucket stores no half objects; there all but the network is compared with its sum. Workers
    compare the network too.
    """
    directory = local_path(output.url)
    if directory is not None:
        return is_whole(directory / "models" / model_id)
    try:
        words = output.read(f"models/{model_id}/{_SUMS}").decode().split()
        sums = dict(zip(words[1::2], words[::2], strict=True))
        small = {name: output.read(f"models/{model_id}/{name}") for name in _OTHERS}
        network = read_network(small[_FACTS])
    except (NotFound, ValueError):
        return False
    there = all(output.exists(f"models/{model_id}/{name}") for name in network.files)
    return there and all(
        hashlib.sha256(data).hexdigest() == sums.get(name) for name, data in small.items()
    )


def _files(folder: Path) -> tuple[str, ...]:
    """Names of an export's files, the network first. Raises ``ValueError`` as ``read_network``."""
    return (*read_network((folder / _FACTS).read_bytes()).files, *_OTHERS)


def _sums(folder: Path) -> bytes:
    lines = []
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines).encode()
