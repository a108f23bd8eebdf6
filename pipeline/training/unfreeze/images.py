"""The pixels of a training: read and decoded once, with the reader and decoder of ``extract``.

They lie in a file, which every epoch reads: a container or a bucket is read once, and an image that
fails is known before the first step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reports.text import size_text
from pipeline.training.unfreeze.checkpoint import CHECKPOINT
from transforms.choices import ResizeMode
from transforms.containers.index import Indexes
from transforms.containers.locate import locate
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize, decode_all
from transforms.errors import FailureKind, ImageError, UserError
from transforms.read import EncodedImage, ReadPolicy, Result, read_images
from transforms.records import ImageReference, references_of
from transforms.storage.settings import Stores

# Images held at once.
_CHUNK = 256
_PIXELS, _FAILURES = "pixels.npy", "images.json"
_SPARE_BYTES = 64 << 20

# Called with the images done, the images in all, and the failures so far.
OnImages = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class Looks:
    """How the network sees an image, and where images are."""

    size: tuple[int, int]  # height, width
    resize: ResizeMode
    stores: Stores = ()
    # Where the members of containers are kept.
    indexes: Indexes | None = None


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pictures of a training."""

    # uint8 [N, H, W, 3], RGB, in the order of the rows; of a failed image all zero.
    pixels: npt.NDArray[np.uint8]
    # By position: the word of its ``FailureKind``, and a message.
    failures: dict[int, tuple[str, str]]


def prepare(rows: pa.Table, looks: Looks, folder: Path, call: OnImages) -> Pixels:
    """Decode the images of rows into a file of ``folder``, or use the file of an earlier start.

    The limits of size are those that the rows need. An image that is not the one of the table any
    more fails.

    Args:
        rows: With the columns uri, etag, size, modified, content_sha256, width and height.
        looks: How to decode them.
        folder: Belongs to exactly these rows and looks.
        call: Tells how far it is.

    Raises:
        UserError: The disk has no room.
        StorageError: A bucket does not answer.
    """
    path, note = folder / _PIXELS, folder / _FAILURES
    shape = (rows.num_rows, *looks.size, 3)
    failures = json.loads(note.read_text(encoding="utf-8")) if note.exists() else None
    # Until the first epoch is done, images that failed get another chance.
    if failures == [] or (failures and (folder / CHECKPOINT).exists()):
        pixels = np.load(path, mmap_mode="r")
        return Pixels(pixels, {int(place): (kind, what) for place, kind, what in failures})
    _check_room(folder, int(np.prod(shape)))
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    found: dict[int, tuple[str, str]] = {}
    done = 0
    for places, results in _decoded(rows, looks):
        for place, result in zip(places, results, strict=True):
            if isinstance(result, ImageError):
                found[place] = (result.kind.word, result.message)
            else:
                pixels[place] = result
        done += len(places)
        call(done, rows.num_rows, len(found))
    pixels.flush()
    # Written last: where it exists, the pixels are whole.
    temporary = note.with_suffix(".tmp")
    temporary.write_text(json.dumps([[place, *why] for place, why in found.items()]))
    temporary.replace(note)
    return Pixels(np.load(path, mmap_mode="r"), found)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise UserError(
            f"the pixels of this training take {size_text(needed)}, and {folder} has "
            f"{size_text(free)} left; make room there, or --save the model on another disk"
        )


def _decoded(
    rows: pa.Table, looks: Looks
) -> Iterator[tuple[list[int], Sequence[np.ndarray | ImageError]]]:
    """Yield positions, and for each of them the pixels uint8 [H, W, 3] or why there are none."""
    max_bytes = int(pc.max(rows["size"]).as_py() or 0)
    max_pixels = int(pc.max(pc.multiply(rows["width"].cast("int64"), rows["height"])).as_py() or 0)
    decode = DecodeAndResize(DecodePolicy(max_bytes, max_pixels), looks.size, looks.resize)
    reading = ReadPolicy(max_bytes=max_bytes, stores=looks.stores)
    references = locate(references_of(rows), looks.stores, looks.indexes)
    contents = rows["content_sha256"].to_pylist()
    # A stream is read from its start to its end, once.
    order = sorted(range(len(references)), key=lambda number: _place(references[number]))
    images = read_images([references[number] for number in order], reading)
    for start in range(0, len(order), _CHUNK):
        places = order[start : start + _CHUNK]
        read = [_checked(next(images), contents[place]) for place in places]
        yield places, _decode(read, decode)


def _place(reference: ImageReference) -> tuple[str, int]:
    return reference.location, reference.member.offset if reference.member else 0


def _checked(item: Result, content: str) -> bytes | ImageError:
    if not isinstance(item, EncodedImage):
        return item[1]
    if item.sha256 != content:
        # Its label and its split were decided for other bytes.
        return ImageError("read", FailureKind.CHANGED, "has other bytes than the table says")
    return item.data


def _decode(
    read: Sequence[bytes | ImageError], decode: DecodeAndResize
) -> list[np.ndarray | ImageError]:
    data = [item for item in read if isinstance(item, bytes)]
    results = decode_all([(item, (decode,)) for item in data])
    found: list[np.ndarray | ImageError] = []
    for item in read:
        result: Any = item if isinstance(item, ImageError) else next(results)[0]
        found.append(result if isinstance(result, ImageError) else result.pixels)
    return found
