"""The folder of an unfinished training, beside its model: it belongs to one process at a time."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transforms.errors import UserError

_LOG = logging.getLogger(__name__)
_SETTINGS, _LOCK = "settings.json", "lock"
# All that a training writes there; other files are left alone.
_OWN = ("pixels.npy", "images.json", "images.tmp", "checkpoint.npz", "head.keras", _SETTINGS)


@contextmanager
def workspace(model: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Open ``MODEL.training/``; delete it when the block ends without an error.

    What an earlier start with the same settings left is kept, and is deleted if they are others.

    Args:
        model: Where the model will be saved.
        settings: All that decides the result, as JSON holds it.

    Yields:
        The folder.

    Raises:
        UserError: Another process trains this model, or the folder cannot be written.
    """
    folder = model.with_name(f"{model.name}.training")
    with _locked(folder):
        _keep_or_clear(folder, settings)
        yield folder
        _clear(folder)
        (folder / _LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        # Somebody else's files stay.
        folder.rmdir()


def _keep_or_clear(folder: Path, settings: Mapping[str, Any]) -> None:
    path, text = folder / _SETTINGS, json.dumps(dict(settings), sort_keys=True)
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return
        _LOG.info("an unfinished training with other settings is discarded: %s", folder)
    _clear(folder)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _not_writable(folder, error) from error


def _clear(folder: Path) -> None:
    # The settings go last: without them, nothing of the rest is used.
    for path in [*folder.glob(".tmp-*"), *(folder / name for name in _OWN)]:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system takes back from a process that is killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process before may have deleted the file since it was opened.
        if not (folder / _LOCK).exists():
            raise BlockingIOError
        yield
    except BlockingIOError as error:
        raise UserError(
            f"another process trains in {folder}; wait for it, or --save under another name"
        ) from error
    finally:
        os.close(descriptor)


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write {folder}: {error.strerror or error}; --save the model where this process "
        "may write"
    )
