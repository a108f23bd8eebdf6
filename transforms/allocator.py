"""The C allocator: keep freed memory and use it again.

Otherwise decoding asks the kernel for memory image by image.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
# Bytes; above the network's largest activation, 154 MB for 32 images of EfficientNet-Lite0.
_KEPT = 512 << 20


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


@cache
def share_one_heap() -> None:
    """Have Arrow's tables and the pixels of this process share one heap a core.

    Once is enough. Call it where a process starts: before it has many threads, and before Arrow is
    imported, which reads its pool's name then. In a worker Beam has imported Arrow already; there
    Arrow's own C++ keeps its pool for what it needs for a moment.

    What is freed can only be used again from the same heap. glibc makes up to eight a core: 8,192
    images took 562 MiB instead of 666. Arrow's own pool keeps what was freed: 20,000 images took
    720 MiB instead of 650. ``MALLOC_ARENA_MAX`` and ``ARROW_DEFAULT_MEMORY_POOL`` in the
    environment go before.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _mallopt(_M_ARENA_MAX, os.cpu_count() or 1)
    if "ARROW_DEFAULT_MEMORY_POOL" in os.environ:
        return
    # Also for the processes that this one starts.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    if pyarrow := sys.modules.get("pyarrow"):
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())


def _mallopt(name: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # musl and macOS have no mallopt, and Windows no handle of the whole process.
        return False
    return bool(mallopt(name, value))
