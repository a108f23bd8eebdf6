"""The C allocator: keep freed memory, so that decoding does not ask the kernel for it again, image by image."""

from __future__ import annotations

import ctypes
from functools import cache

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT = 512 << 20  # bytes: above the network's largest activation, 154 MB for 32 images of EfficientNet-Lite0


@cache
def keep_freed_memory() -> bool:
    """Have this process reuse freed blocks of up to 512 MiB; once is enough. Returns whether it does.

    By default glibc gives a freed picture's pages back at once, and each new one is faulted in again page by page.
    Measured for decoding and resizing on one core, with and without: 380 page faults and 2.1 ms against none and
    1.1 ms for a 500x375 JPEG, 2,300 faults and 18 ms against none and 10 ms for 4.3 megapixels; TensorFlow's network
    alone gained a fifth. Other C libraries have no ``mallopt``, and nothing changes there.

    Arrow's tables come from the same memory then, not from a pool that keeps its own: 650 MiB at the most for 20,000
    images, before 720.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows has no handle of the whole process
        return False
    pa.set_memory_pool(pa.system_memory_pool())
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
