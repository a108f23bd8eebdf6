"""Retry requests that the clients of buckets give up after one try.

obstore and deltalake (both Rust object_store 0.13) retry the answers 408, 429 and 5xx, and
connections that break before the answer. They do not retry an answer whose body breaks off (a page
of a listing, a small file of Delta's log), nor a conditional put that may have been done.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_WAITS = (0.2, 0.4, 0.8, 1.6, 3.2)  # seconds, before each further try
# Seconds that a client has spent on its own tries: enough, whatever it says of their number
_LONG = 100
_COLOR = re.compile(r"\x1b\[\d+m")
_TRIES = re.compile(r"after (\d+) retries,\W*max_retries\W*(\d+)")
_SECONDS = re.compile(r" in (\d+)\.\d+s\b")


def broke_off(error: Exception) -> bool:
    """Tell whether a client's error is a broken exchange that may be tried again."""
    text = _COLOR.sub("", str(error).split("Debug source")[0])
    if "HTTP error" not in text or re.search(r"status code: [34]", text):
        return False
    tries, seconds = _TRIES.search(text), _SECONDS.search(text)
    return not (tries and tries[1] == tries[2]) and not (seconds and int(seconds[1]) >= _LONG)


def wait_before(attempt: int) -> bool:
    """Wait before repetition number ``attempt``, from 1; return False after the last one."""
    if attempt > len(_WAITS):
        return False
    time.sleep(_WAITS[attempt - 1] * random.uniform(0.5, 1))
    return True


def retry(
    call: Callable[[], _T],
    may_pass: Callable[[Exception], bool],
    errors: tuple[type[Exception], ...],
) -> _T:
    """Call until it succeeds, with a wait before each further try.

    Args:
        call: What to do; it can be done again.
        may_pass: Whether another try may do what ended in this error.
        errors: The types of error that ``may_pass`` is asked about.

    Raises:
        Exception: What the last try raised.
    """
    attempt = 1
    while True:
        try:
            return call()
        except errors as error:
            if not (may_pass(error) and wait_before(attempt)):
                raise
        attempt += 1
