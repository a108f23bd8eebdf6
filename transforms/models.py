"""Exported backbones: made once by the driver, kept in a user cache and in the output, loaded by workers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from transforms.storage import Storage, local_path

_FILES = ("graph.pb", "golden.npz", "model.json")  # model.json last: a folder that has it is whole


def cache_folder() -> Path:
    """Where exports are kept between runs: ``$XDG_CACHE_HOME/image-features`` or ``~/.cache/image-features``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "image-features" / "models"


def cached_model(model_id: str, fill: Callable[[Path], None]) -> Path:
    """The folder of ``model_id`` in the user cache, filled first by ``fill(folder)`` if it is not there.

    Processes that fill it at once do not disturb each other: the first rename wins. Where no cache can be
    written (a read-only home), a folder of this process serves.
    """
    folder = cache_folder() / model_id
    if (folder / _FILES[-1]).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{model_id[:12]}-", dir=folder.parent))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="image-features-"))
        fill(folder)
        return folder
    try:
        fill(scratch)
        scratch.rename(folder)
    except OSError:
        if not (folder / _FILES[-1]).exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def save_model(output: Storage, model_id: str, folder: Path) -> None:
    """Copy an exported folder to ``OUTPUT/models/<model_id>/`` unless it is there already."""
    if output.exists(f"models/{model_id}/{_FILES[-1]}"):
        return
    for name in _FILES:
        output.write(f"models/{model_id}/{name}", (folder / name).read_bytes())


def load_model(output: Storage, model_id: str) -> Path:
    """The exported folder on this machine: where it lies for a local output, otherwise fetched once."""
    directory = local_path(output.url)
    if directory is not None:
        return directory / "models" / model_id

    def fetch(folder: Path) -> None:
        for name in _FILES:
            (folder / name).write_bytes(output.read(f"models/{model_id}/{name}"))

    return cached_model(model_id, fetch)
