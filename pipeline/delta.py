"""Delta's own requests to a bucket: what its client gives up at once is tried again, and errors are one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from typing import TypeVar
from urllib.parse import quote

from transforms.buckets import parse_url, scheme_of
from transforms.errors import UserError
from transforms.retries import broke_off, wait_before
from transforms.storage import StorageError

T = TypeVar("T")


def read_delta(url: str, read: Callable[[], T]) -> T:
    """Read something of the table at ``url``. Raises ``StorageError`` where its bucket does not answer."""
    from deltalake.exceptions import DeltaError

    for attempt in count(1):
        try:
            return read()
        except (DeltaError, OSError) as error:
            if not scheme_of(url):
                raise
            if not (broke_off(error) and wait_before(attempt)):
                raise StorageError(f"{url}: {one_line(error)}") from error
    raise AssertionError("unreachable")


def delta_url(url: str) -> str:
    """Return the address of a table as deltalake wants it: a URL's key percent-encoded, a local path as it is.

    Raises ``UserError`` for a key that holds what looks encoded: deltalake decodes it once too often, and would
    write the table to another place.
    """
    if not scheme_of(url):
        return url
    if found := re.search(r"%[0-9A-Fa-f]{2}", url):
        raise UserError(f"{url!r}: {found[0]!r} in the name of an output in a bucket is more than Delta can address")
    scheme, bucket, key = parse_url(url)
    return f"{scheme}://{bucket}/{quote(key)}"


def one_line(error: Exception) -> str:
    """Delta's error without its colours, arrows and line breaks."""
    text = re.sub(r"\x1b\[\d+m|↳|<\?xml.*", " ", str(error), flags=re.DOTALL)
    return " ".join(text.split())[:300].rstrip(".")
