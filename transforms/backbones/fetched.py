"""Copy weights and models from a bucket into the user's cache, under the hash of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from transforms.backbones.model_json import path_beside
from transforms.backbones.onnx_wire import external_names
from transforms.errors import UserError
from transforms.names import printable
from transforms.storage import NotFound, Storage, open_storage
from transforms.storage.settings import Stores

_FILES = (".keras", ".h5", ".hdf5", ".onnx")


def fetch_file(url: str, stores: Stores) -> Path:
    """Fetch one file.

    Raises:
        StorageError: It is not there, or cannot be read or written.
    """
    folder, _, name = url.rpartition("/")
    return _keep("weights", {name: open_storage(folder, stores).read(name)}) / name


def fetch_model(url: str, stores: Stores) -> Path:
    """Fetch a model: a file and what belongs to it, or all files of a SavedModel's folder.

    Returns:
        The path of the local file or folder; it has the model's own name.

    Raises:
        UserError: There is no such model, or it names files outside its folder.
        StorageError: The bucket cannot be read, or the cache cannot be written.
    """
    place, _, name = url.rstrip("/").rpartition("/")
    folder = open_storage(place, stores)
    if name.endswith(_FILES):
        files = _with_others(folder, name, url)
    else:
        keys = [found.key for found in folder.list(name)]
        files = {key: folder.read(key) for key in keys if is_inside(key, name, url)}
    if not files:
        raise UserError(f"--backbone {url}: there is no such file or folder")
    return _keep("backbones", files) / name


def _with_others(folder: Storage, name: str, url: str) -> dict[str, bytes]:
    """Return a model's file, and those beside it that belong to it."""
    try:
        files = {name: folder.read(name)}
    except NotFound as error:
        raise UserError(f"--backbone {url}: there is no such file or folder") from error
    beside = path_beside(Path(name)).name
    if name.endswith(".keras") and folder.exists(beside):
        files[beside] = folder.read(beside)
    if name.endswith(".onnx"):
        for other in external_names(files[name], url):
            files[other] = folder.read(other)
    return files


def is_inside(key: str, name: str, url: str) -> bool:
    """Tell whether an object is a file of the folder, and not the mark of a folder.

    Raises:
        UserError: Its name would leave the folder on this machine.
    """
    if not {"", ".", ".."}.isdisjoint(key.removesuffix("/").split("/")) or "\\" in key:
        raise UserError(
            f"--backbone {url}: holds an object called {printable(key)!r}, which is no file name "
            "here; copy the model without it"
        )
    return key.startswith(f"{name}/") and not key.endswith("/")


def _keep(kind: str, files: Mapping[str, bytes]) -> Path:
    """Write files to the cache; return their folder there."""
    from transforms.engines.models import cache_folder

    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    (digest, *others) = hashes.values()
    if others:
        lines = "".join(f"{digest}  {name}\n" for name, digest in hashes.items())
        digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    kept = open_storage(str(cache_folder().parent / kind / digest))
    for name, data in files.items():
        kept.write(name, data)
    return Path(kept.url)
