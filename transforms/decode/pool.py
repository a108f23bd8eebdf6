"""Many images at once: decoding on all cores of a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain

from transforms.allocator import keep_freed_memory
from transforms.choices import ResizeMode
from transforms.decode.image import DecodedImage, DecodePolicy, decode
from transforms.engines.base import available_cores
from transforms.errors import ImageError
from transforms.preprocess import image_chain

# Images of one task: a task costs 0.05 ms of a core, and the last ones of a chunk wait for each
# other
_TOGETHER = 4


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
    groups = [encoded[start : start + _TOGETHER] for start in range(0, len(encoded), _TOGETHER)]
    return chain.from_iterable(_decoders(cores).map(decode_some, groups))


def _decoded(data: bytes, function: DecodeAndResize) -> DecodedImage | ImageError:
    try:
        return function(data)
    except ImageError as error:
        return error


@cache
def _decoders(cores: int) -> ThreadPoolExecutor:
    """One pool a process: decoding in C and Rust releases the GIL, and all shards here share the cores."""
    keep_freed_memory()
    return ThreadPoolExecutor(cores, thread_name_prefix="decode")
