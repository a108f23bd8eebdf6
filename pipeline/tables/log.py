"""Delta's log itself: entries that were not written whole, and how none is left."""

from __future__ import annotations

import json
import os
import re

from transforms.storage import Storage, StorageError, local_path

_ENTRY = re.compile(r"_delta_log/\d{20}\.json")


def check_newest_entry(table: Storage) -> bool:
    """Whether a table has a log; see that its newest entry was written whole.

    Delta takes an entry that is empty, or cut off at the end of a line, for a commit of what is
    left of it: rows would be missing, and nothing would say so.

    Raises:
        StorageError: The entry is empty or cut off, as after a power cut or an incomplete copy.
    """
    keys = [found.key for found in table.list("_delta_log")]
    newest = max((key for key in keys if _ENTRY.fullmatch(key)), default=None)
    if newest is None or _is_whole(data := table.read(newest)):
        return bool(keys)
    raise StorageError(
        f"{table.url}/{newest} was not written whole ({len(data):,} bytes), as after a power cut. "
        "Delete this file to go back to the version before it, and run the command again: what it "
        "had added is done again"
    )


def _is_whole(entry: bytes) -> bool:
    """Whether nothing is missing at an entry's end.

    One of ours has the transaction of its run, and has it last.
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
    """Have the entries from a version on outlive a power cut: on a local disk deltalake leaves that to the system.

    With them the folders in which a new table is new. Those that are on the disk already cost next
    to nothing.

    Raises:
        StorageError: The disk does not take it.
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
