"""Delta's log on a local disk: an entry that a power cut left half written, and how none is left."""

from __future__ import annotations

import os
import re
from pathlib import Path

from transforms.storage import StorageError, local_path

_ENTRY = re.compile(r"\d{20}\.json")


def check_newest_entry(url: str) -> None:
    """See that the newest entry of a local table's log was written whole. A bucket stores no half objects.

    Delta takes an empty entry for a commit of nothing: its rows would be missing, and nothing would say so.

    Raises:
        StorageError: The entry is empty or cut off.
    """
    folder = _folder(url)
    entries = sorted(path for path in folder.glob("*.json") if _ENTRY.fullmatch(path.name)) if folder else []
    if not entries:
        return
    data = entries[-1].read_bytes().strip()
    if data.startswith(b"{") and data.endswith(b"}") and b"\0" not in data:
        return
    raise StorageError(
        f"{entries[-1]} was not written whole ({len(data):,} bytes), as after a power cut. Delete this file to go back "
        "to the version before it, and run the command again: what it had added is done again"
    )


def make_durable(url: str, version: int) -> None:
    """Have the entry of a version outlive a power cut: on a local disk deltalake leaves that to the system.

    Raises:
        StorageError: The disk does not take it.
    """
    folder = _folder(url)
    if folder is None:
        return
    for path in (folder / f"{version:020d}.json", folder, folder.parent):
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _folder(url: str) -> Path | None:
    table = local_path(url)
    return table / "_delta_log" if table else None
