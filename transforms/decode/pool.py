"""Decode many images at once, on all cores of a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np

from transforms.allocator import keep_freed_memory
from transforms.choices import ResizeMode
from transforms.decode.image import DecodedImage, DecodePolicy, decode, scales_of
from transforms.engines.base import available_cores
from transforms.errors import ImageError
from transforms.phash import SIDE, phash
from transforms.preprocess import image_chain

# Images per task. A task costs 0.05 ms of a core; with large tasks, cores would be idle at the end
# of a chunk.
_TASK_IMAGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """A picture for the network; ``format``, ``width`` and ``height`` describe the file."""

    # uint8 [H, W, 3] at the network's input size.
    pixels: np.ndarray
    format: str
    width: int
    height: int
    # Of the whole picture (``transforms.phash``).
    phash: int


@dataclass(frozen=True, slots=True)
class DecodeAndResize:
    """Decode bytes to pixels at the network's input size, and hash the picture."""

    policy: DecodePolicy
    size: tuple[int, int]  # height, width
    resize: ResizeMode

    def __call__(self, data: bytes) -> PreparedImage:
        """Decode one image.

        Raises:
            ImageError: If the image cannot be decoded.
        """
        return self.resized(decode(data, self.policy, self.size))

    def resized(self, image: DecodedImage) -> PreparedImage:
        """Resize an image that was decoded for this size."""
        pixels = image_chain(self.size, self.resize, image.whole)(image.pixels)
        # The network's picture is usually the smaller one, and takes a third of the time.
        use = self._keeps_enough and pixels.size < image.pixels.size
        whole = pixels if use else image.pixels
        return PreparedImage(pixels, image.format, image.width, image.height, phash(whole))

    @property
    def _keeps_enough(self) -> bool:
        """Tell whether the network's picture is whole, and large enough for its hash."""
        return self.resize == "squash" and min(self.size) >= SIDE


# An image's bytes, and all that is to become of them.
Wanted = tuple[bytes, Sequence[DecodeAndResize]]
Results = list[PreparedImage | ImageError]


def decode_all(images: Sequence[Wanted], cores: int | None = None) -> Iterator[Results]:
    """Decode images in parallel, each of them once for all networks that take the same pixels.

    Args:
        images: The images' bytes, each with one or more functions.
        cores: Number of threads; None for all available cores.

    Yields:
        For each of ``images`` in order: the image, or its error, by each of the functions. It is
        what the function alone would have returned.
    """

    def decode_some(some: Sequence[Wanted]) -> list[Results]:
        return [_decoded(*image) for image in some]

    cores = cores or available_cores()
    starts = range(0, len(images), _TASK_IMAGES)
    groups = [images[start : start + _TASK_IMAGES] for start in starts]
    return chain.from_iterable(_decoders(cores).map(decode_some, groups))


def _decoded(data: bytes, functions: Sequence[DecodeAndResize]) -> Results:
    """Decode once for each scale: a JPEG is decoded smaller for a smaller network."""
    scales = scales_of(data, [function.size for function in functions])
    results: dict[DecodeAndResize, PreparedImage | ImageError] = {}
    for scale in dict.fromkeys(scales):
        same = [function for function, own in zip(functions, scales, strict=True) if own == scale]
        try:
            image = decode(data, same[0].policy, same[0].size)
            results.update({function: function.resized(image) for function in same})
        except ImageError as error:
            results.update(dict.fromkeys(same, error))
    return [results[function] for function in functions]


@cache
def _decoders(cores: int) -> ThreadPoolExecutor:
    """Return the process's pool: all shards share the cores, and decoding releases the GIL."""
    keep_freed_memory()
    return ThreadPoolExecutor(cores, thread_name_prefix="decode")
