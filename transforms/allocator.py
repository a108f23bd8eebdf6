"""The C allocator: keep freed memory and use it again, so that decoding does not ask the kernel image by image."""

from __future__ import annotations

import ctypes
import os
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_KEPT = (
    512 << 20
    # bytes: above the network's largest activation, 154 MB for 32 images of EfficientNet-Lite0
)


@cache
def keep_freed_memory() -> bool:
    """Have this process reuse freed blocks of up to 512 MiB; once is enough.

    Returns whether it does.

    By default glibc gives a freed picture's pages back at once, and each new one is faulted in
    again page by page. Measured for decoding and resizing on one core, with and without: 380 page
    faults and 2.1 ms against none and 1.1 ms for a 500x375 JPEG, 2,300 faults and 18 ms against
    none and 10 ms for 4.3 megapixels; TensorFlow's network alone gained a fifth. Other C libraries
    have no ``mallopt``, and nothing changes there.
    """
    return _mallopt(_M_MMAP_THRESHOLD, _KEPT) and _mallopt(_M_TRIM_THRESHOLD, _KEPT)


def one_arena_a_core() -> bool:
    """Have the threads of this process share one heap a core; only in time before there are many threads.

    What is freed can only be used again from the same arena, and glibc makes up to eight a core:
    8,192 images took 562 MiB instead of 666. ``MALLOC_ARENA_MAX`` in the environment goes before.
    Returns whether it does.
    """
    return "MALLOC_ARENA_MAX" not in os.environ and _mallopt(_M_ARENA_MAX, os.cpu_count() or 1)


def _mallopt(name: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (
        AttributeError,
        OSError,
        TypeError,
    ):
        # Musl, macOS; Windows has no handle of the whole process
        return False
    return bool(mallopt(name, value))
