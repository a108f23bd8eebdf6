"""Call Delta: retry its requests, shorten its errors to one line, build its actions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa

from pipeline.tables.history import Change
from transforms.errors import UserError
from transforms.parts.write import Part
from transforms.records import CARRIED
from transforms.storage import StorageError
from transforms.storage.retries import broke_off, retry
from transforms.storage.urls import parse_url, scheme_of

T = TypeVar("T")
# How deltalake words that error.
_THERE_ALREADY = re.compile(r"(?:Invalid table version|Failed to commit transaction): \d+$")


def read_delta(url: str, read: Callable[[], T]) -> T:
    """Read from a table with retries: deltalake gives up on some errors at once.

    Args:
        url: Address of the table, for messages. Only reads from a bucket are retried.
        read: Does the read.

    Returns:
        What ``read`` returns.

    Raises:
        StorageError: The bucket does not answer, or the table's log cannot be read.
        OSError: A local file cannot be read, or the bucket lacks a file.
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
            f"the log of the table {url} cannot be read: {one_line(error)}. Restore its _delta_log "
            "from a copy, or move the output away to process all images again"
        ) from error


def holds_run(delta: Any, url: str, run_id: str) -> bool:
    """Tell whether a run is committed in a version that Delta has opened.

    Args:
        delta: The table, opened by Delta.
        url: Its address, for messages.
        run_id: The run.

    Raises:
        StorageError: The bucket does not answer, or the log cannot be read.
    """
    return read_delta(url, lambda: delta.transaction_version(run_id)) is not None


def only_parts(dataset: Any, parts: Collection[str]) -> Any:
    """Return the dataset of some parts, which are named by their paths."""
    from pyarrow.dataset import FileSystemDataset

    fragments = [
        fragment
        for fragment in dataset.get_fragments()
        if fragment.path.rsplit("/", 1)[-1] in parts
    ]
    return FileSystemDataset(fragments, dataset.schema, dataset.format, dataset.filesystem)


def delta_url(url: str) -> str:
    """Return the address of a table in the form that deltalake expects.

    Args:
        url: URL or local path of the table.

    Returns:
        The URL with its key percent-encoded; a local path as it is.

    Raises:
        UserError: The name holds text that looks percent-encoded. deltalake decodes it once too
            often, and would write the table to another place.
    """
    if found := re.search(r"%[0-9A-Fa-f]{2}", url):
        raise UserError(
            f"{url!r}: Delta cannot address an output with {found[0]!r} in its name. Give another "
            "--output"
        )
    if not scheme_of(url):
        return url
    scheme, bucket, key = parse_url(url)
    return f"{scheme}://{bucket}/{quote(key)}"


def one_line(error: Exception) -> str:
    """Return the text of Delta's error as plain text in one line.

    Colours, arrows, line breaks and the stack are removed. The max length is 300 characters.
    """
    text = re.sub(r"\x1b\[\d+m|↳|<\?xml.*|\n\s+0: .*", " ", str(error), flags=re.DOTALL)
    return " ".join(text.split())[:300].rstrip(".")


def is_there_already(error: Exception) -> bool:
    """Tell whether a commit failed because the store says that its version already exists."""
    return bool(_THERE_ALREADY.match(one_line(error)))


def commit_error(error: Exception) -> str:
    """Describe in one line a commit that failed for good though nobody else wrote."""
    if is_there_already(error):
        return "the store answers each time that the new version is there already, and it is not"
    return one_line(error)


def commit_properties(
    run_id: str, change: Change, step: int = 1, notes: Mapping[str, Any] | None = None
) -> Any:
    """Return what a commit notes besides its parts, for the history and for ``has_run``.

    Args:
        run_id: The run, compaction, repair or rollback.
        change: What the commit does.
        step: The number of the commit among those of the run.
        notes: Further entries of the history, as JSON can hold them.
    """
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata={"run_id": run_id, "change": asdict(change), **(notes or {})},
        max_commit_retries=0,
        app_transactions=[Transaction(run_id, step)],
    )


def missing_fields(delta: Any, schema: Any) -> list[Any]:
    """Return the fields of a Delta schema that a table lacks, or has with fewer fields inside."""
    known = {field.name: field for field in delta.schema().fields}
    return [
        field
        for field in schema.fields
        if field.name not in known or (field.name in CARRIED and field != known[field.name])
    ]


def add_action(part: Part, data_change: bool) -> Any:
    """Return Delta's action that adds a part to a table.

    Args:
        part: The part.
        data_change: Whether its rows are new to readers; False where they only move.
    """
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
    """Return Delta's action that removes a part from a table.

    Args:
        part: The part as Delta's log describes it: ``path``, ``size_bytes``.
        data_change: Whether readers lose its rows; False where they only move.
    """
    from deltalake.transaction import RemoveAction

    return RemoveAction(
        part["path"], data_change, time.time_ns() // 1_000_000, part["size_bytes"], {}
    )


def row_ids(rows: pa.Table) -> pa.Array:
    """Return an id for each row that is unique across all versions: its image and its run.

    Args:
        rows: Columns ``uri`` and ``run_id``, strings [n].

    Returns:
        Strings [n].
    """
    return pa.compute.binary_join_element_wise(rows["uri"], rows["run_id"], " ").combine_chunks()


def count_missing(rows: pa.Array, other: pa.Array) -> int:
    """Count the values of ``rows`` that are not in ``other``."""
    return len(rows) - int(pa.compute.sum(pa.compute.is_in(rows, value_set=other)).as_py() or 0)
