"""List and read the images of a container, as a run does it, and make small photos to put in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from transforms.containers.base import Wanted
from transforms.containers.bytes import open_container
from transforms.containers.index import Indexes, list_members
from transforms.file_names import Ignored
from transforms.read import EncodedImage, ReadPolicy, Result, read_images
from transforms.records import ImageReference, references_of
from transforms.shards import in_reading_order


def photo(seed: int, side: int = 24) -> bytes:
    """Return a JPEG of noise; each seed gives other bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


PHOTOS = {f"{name}.jpg": photo(seed) for seed, name in enumerate("abcd")}


def make_tar(
    path: Path, members: Mapping[str, bytes] | None = None, mode: str = "w", form: int | None = None
) -> Path:
    """Write a tar with Python's own library."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT if form is None else form) as tar:
        for name, data in (PHOTOS if members is None else members).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def members_of(
    uri: Path | str,
    column: str | None = None,
    ignored: Ignored | None = None,
    indexes: Indexes | None = None,
) -> list[ImageReference]:
    """Return the images of a container in the order in which a shard reads them."""
    with open_container(str(uri)) as file:
        wanted = Wanted(column)
        table = list_members(file, Ignored() if ignored is None else ignored, wanted, indexes)
    assert table is not None, f"{uri} is no container"
    return references_of(in_reading_order(table))


def read_all(
    uri: Path | str, column: str | None = None, policy: ReadPolicy | None = None
) -> dict[str, bytes | str]:
    """Return each member's bytes, or the word of its failure; "" names the container itself."""
    results = read_images(members_of(uri, column), policy)
    return {_name(uri, result): _outcome(result) for result in results}


def _name(uri: Path | str, result: Result) -> str:
    reference = result.reference if isinstance(result, EncodedImage) else result[0]
    return reference.uri.removeprefix(str(uri)).removeprefix("::")


def _outcome(result: Result) -> bytes | str:
    return result.data if isinstance(result, EncodedImage) else result[1].kind.word


def problems_of(uri: Path | str, column: str | None = None) -> dict[str, str]:
    """Return the message of each member that cannot be read."""
    results = read_images(members_of(uri, column))
    return {_name(uri, one): one[1].message for one in results if not isinstance(one, EncodedImage)}
