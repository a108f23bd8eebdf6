"""Delta's own requests: what its client gives up at once is tried again, errors are one line; and its actions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa

from transforms.errors import UserError
from transforms.parts.write import Part
from transforms.storage import StorageError
from transforms.storage.retries import broke_off, retry
from transforms.storage.urls import parse_url, scheme_of

T = TypeVar("T")
_THERE_ALREADY = re.compile(r"(?:Invalid table version|Failed to commit transaction): \d+$")


def read_delta(url: str, read: Callable[[], T]) -> T:
    """Read something of the table at ``url``.

    Raises ``StorageError`` where its bucket or its log fails.
    """
    from deltalake.exceptions import DeltaError

    remote = bool(scheme_of(url))

    def may_pass(error: Exception) -> bool:
        return remote and not isinstance(error, FileNotFoundError) and broke_off(error)

    try:
        return retry(read, may_pass, (DeltaError, OSError))
    except (DeltaError, OSError) as error:
        if remote and not isinstance(error, FileNotFoundError):
            raise StorageError(f"{url}: {one_line(error)}") from error
        if remote or not isinstance(error, DeltaError):
            raise
        raise StorageError(
            f"the log of the table {url} cannot be read: {one_line(error)}. Bring its _delta_log "
            "back from a copy, or move the output away to do all images again"
        ) from error


def delta_url(url: str) -> str:
    """Return the address of a table as deltalake wants it: a URL's key percent-encoded, a local path as it is.

    Raises ``UserError`` for a key that holds what looks encoded: deltalake decodes it once too
    often, and would write the table to another place.
    """
    if not scheme_of(url):
        return url
    if found := re.search(r"%[0-9A-Fa-f]{2}", url):
        raise UserError(
            f"{url!r}: {found[0]!r} in the name of an output in a bucket is more than Delta can "
            "address"
        )
    scheme, bucket, key = parse_url(url)
    return f"{scheme}://{bucket}/{quote(key)}"


def one_line(error: Exception) -> str:
    """Delta's error without its colors, arrows, line breaks and stack."""
    text = re.sub(r"\x1b\[\d+m|↳|<\?xml.*|\n\s+0: .*", " ", str(error), flags=re.DOTALL)
    return " ".join(text.split())[:300].rstrip(".")


def is_there_already(error: Exception) -> bool:
    """Whether a commit failed because the store says that its version is there: so deltalake says it."""
    return bool(_THERE_ALREADY.match(one_line(error)))


def commit_error(error: Exception) -> str:
    """One line on a commit that failed for good, though nobody else wrote."""
    if is_there_already(error):
        return "the store answers each time that the new version is there already, and it is not"
    return one_line(error)


def add_action(part: Part, data_change: bool) -> Any:
    """A part that comes; ``data_change``: whether its rows are new to readers, or only moved."""
    from deltalake.transaction import AddAction

    stats = {
        "numRecords": part.rows,
        "minValues": part.minimum,
        "maxValues": part.maximum,
        "nullCount": dict.fromkeys(part.minimum, 0),
    }
    return AddAction(
        part.path, part.size, {}, time.time_ns() // 1_000_000, data_change, json.dumps(stats)
    )


def remove_action(part: Mapping[str, Any], data_change: bool) -> Any:
    """A part that goes, as Delta's log has it."""
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        part["path"], data_change, time.time_ns() // 1_000_000, part["size_bytes"], {}
    )


def row_ids(rows: pa.Table) -> pa.Array:
    """What tells each row (``uri``, ``run_id``) from those of all versions: its image, and the run that wrote it."""
    return pa.compute.binary_join_element_wise(rows["uri"], rows["run_id"], " ").combine_chunks()


def count_missing(rows: pa.Array, other: pa.Array) -> int:
    """How many of ``rows`` are not in ``other``."""
    return len(rows) - int(pa.compute.sum(pa.compute.is_in(rows, value_set=other)).as_py() or 0)
