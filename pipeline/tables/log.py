"""Check that the entries of Delta's log are complete, and make new ones durable."""

from __future__ import annotations

import json
import os
import re

from transforms.storage import Storage, StorageError, local_path

_ENTRY = re.compile(r"_delta_log/\d{20}\.json")


def check_newest_entry(table: Storage) -> bool:
    """Check that the newest entry of a table's log is complete.

    Delta accepts an entry that is empty, or cut off at the end of a line, as a commit of the lines
    that are left: rows would be missing without any error.

    Args:
        table: Folder of the table.

    Returns:
        Whether the table has a log.

    Raises:
        StorageError: The entry is empty or cut off, as after a power cut or an interrupted copy.
    """
    keys = [found.key for found in table.list("_delta_log")]
    newest = max((key for key in keys if _ENTRY.fullmatch(key)), default=None)
    if newest is None or _is_whole(data := table.read(newest)):
        return bool(keys)
    raise StorageError(
        f"{table.url}/{newest} was not written whole ({len(data):,} bytes), as after a power cut. "
        "Delete this file to go back to the version before it, and run the command again: what it "
        "had added is processed again"
    )


def _is_whole(entry: bytes) -> bool:
    """Tell whether nothing is missing at the end of an entry.

    An entry that this program wrote ends with the transaction of its run.
    """
    lines = entry.strip().splitlines()
    if not lines or b"\0" in entry or not (lines[0].startswith(b"{") and lines[-1].endswith(b"}")):
        return False
    try:
        ours = "run_id" in json.loads(lines[0]).get("commitInfo", {})
    except ValueError:
        return False
    return not ours or any(line.startswith(b'{"txn"') for line in lines)


def make_durable(url: str, first: int) -> None:
    """Flush log entries to the local disk, so that they outlive a power cut.

    deltalake leaves that to the system. The folders that hold a new table are flushed too. Entries
    that are on the disk already cost next to nothing. A table in a bucket needs no flush.

    Args:
        url: Address of the table.
        first: The first version to flush.

    Raises:
        StorageError: The disk reports an error.
    """
    table = local_path(url)
    if table is None:
        return
    log = table / "_delta_log"
    entries = [
        path
        for path in sorted(log.glob("*.json"))
        if path.stem.isdecimal() and int(path.stem) >= first
    ]
    for path in (*entries, log, table, table.parent):
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
