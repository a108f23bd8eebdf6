"""Many images at once: hashing and decoding on all cores of a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TypeVar

from transforms.allocator import keep_freed_memory
from transforms.decode import DecodedImage, DecodePolicy, decode
from transforms.engines.base import available_cores
from transforms.errors import ImageError
from transforms.preprocess import ResizeMode, image_chain
from transforms.read import EncodedImage

_T = TypeVar("_T")
_TOGETHER = 4  # images of one task: a task costs 0.05 ms of a core, and the last ones of a chunk wait for each other


@dataclass(frozen=True, slots=True)
class DecodeAndResize:
    """Encoded bytes → pixels at the network's input size."""

    policy: DecodePolicy
    size: tuple[int, int]  # height, width
    resize: ResizeMode

    def __call__(self, data: bytes) -> DecodedImage:
        """Decode one image: uint8 [*size, 3]. Raises ``ImageError``."""
        image = decode(data, self.policy, self.size)
        pixels = image_chain(self.size, self.resize)(image.pixels)
        return DecodedImage(pixels, image.format, image.width, image.height)


def decode_all(
    encoded: Sequence[bytes], function: DecodeAndResize, cores: int | None = None
) -> Iterator[DecodedImage | ImageError]:
    """Decode on ``cores`` (None: all), in the order of ``encoded``; a bad image gives its error."""

    def decode_some(some: Sequence[bytes]) -> list[DecodedImage | ImageError]:
        return [_decoded(data, function) for data in some]

    cores = cores or available_cores()
    return chain.from_iterable(_decoders(cores).map(decode_some, _slices(encoded, _TOGETHER)))


def _decoded(data: bytes, function: DecodeAndResize) -> DecodedImage | ImageError:
    try:
        return function(data)
    except ImageError as error:
        return error


def hash_all(encoded: Sequence[EncodedImage], cores: int | None = None) -> Iterator[str]:
    """The sha256 of each image's bytes, 64 hexadecimal digits, in the order of ``encoded``."""
    cores = cores or available_cores()
    size = max(1, -(-len(encoded) // (4 * cores)))  # a task an image would cost as much as its hash: 0.05 ms
    return chain.from_iterable(_decoders(cores).map(_hashes, _slices(encoded, size)))


def _hashes(encoded: Sequence[EncodedImage]) -> list[str]:
    return [hashlib.sha256(item.data).hexdigest() for item in encoded]


def _slices(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


@cache
def _decoders(cores: int) -> ThreadPoolExecutor:
    """One pool a process: decoding in C and Rust releases the GIL, and all shards here share the cores."""
    keep_freed_memory()
    return ThreadPoolExecutor(cores, thread_name_prefix="decode")
