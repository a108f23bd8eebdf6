"""List the versions of an output: the time, the run and the row counts of each."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath

from pipeline.reports.text import format_table
from pipeline.tables import Tables
from pipeline.tables.history import Version, versions_of
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_HEADER = ("version", "time (UTC)", "operation", "run", "rows", "added", "removed")


@dataclass(frozen=True, slots=True)
class History:
    """The versions of a features table."""

    versions: tuple[Version, ...]  # newest first

    def __str__(self) -> str:
        return format_table([_HEADER, *(_row(version) for version in self.versions)])


def history(output: str | PathLike[str], stores: Stores = (), table: str = "") -> History:
    """List the versions of the features table.

    Args:
        output: Folder or URL of the tables.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Returns:
        The versions that Delta's log still has, newest first.

    Raises:
        UserError: No run has published there.
    """
    output = fspath(output)
    features = Tables.published(open_storage(output, stores), table).features
    return History(tuple(versions_of(features.history())))


def _row(version: Version) -> tuple[str, ...]:
    """Return the cells of one version, in the order of ``_HEADER``."""
    change = version.change
    if change is None:
        what, counts = f"{version.delta_operation} (another writer)", ["?", "?", "?"]
    else:
        rolled_back = change.restored is not None
        what = f"rollback to {change.restored}" if rolled_back else change.operation
        counts = [f"{count:,}" for count in (change.rows, change.added, change.removed)]
    time = f"{version.time:%Y-%m-%d %H:%M:%S}"
    return str(version.number), time, what, version.run_id, *counts
