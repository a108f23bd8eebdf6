"""The Delta table of duplicates, and which version of the features it stands for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.maintenance.announce import announce_commit
from pipeline.state.run import new_run_id
from pipeline.tables import Table, groups_table
from pipeline.tables.commit import Commit
from pipeline.tables.snapshot import Snapshot
from transforms import parquet
from transforms.errors import Damaged, UserError
from transforms.parts.write import Part, digest, read_part
from transforms.records import GROUPS_SCHEMA
from transforms.storage import Storage

# The entry of a commit's metadata that holds ``Done``.
_KEY = "duplicates"


@dataclass(frozen=True, slots=True)
class Done:
    """What the groups were made from."""

    table_id: str
    recipe: str
    version: int  # of the features table
    cosine: float
    # Of the version's parts; "" in a table of before it was noted.
    fingerprint: str = ""

    @classmethod
    def of(cls, features: Snapshot, cosine: float) -> Done:
        """Return what groups of this version are made from."""
        return cls(
            features.table_id,
            features.recipe_id,
            features.version or 0,
            cosine,
            features.fingerprint,
        )

    def stands_for(self, features: Snapshot) -> bool:
        """Tell whether the groups were made from this version of the table."""
        return self == Done.of(features, self.cosine)


class Store:
    """The table of duplicates as it was when it was opened.

    Args:
        output: Folder of the tables.
        name: Name of the pair of tables; "" for the first one.

    Raises:
        UserError: The table is another program's.
        StorageError: The storage does not answer, or the table's log cannot be read.
    """

    def __init__(self, output: Storage, name: str = "") -> None:
        self.table: Table = groups_table(output, name)
        self.url = self.table.url
        self._output = output
        if self.table.version is not None and not is_ours(self.table):
            raise UserError(
                f"{self.url} is a table of another program, and groups of near-duplicates need its "
                "place: move it away"
            )

    def done(self) -> Done | None:
        """Return what the groups were made from; None when there are none."""
        for entry in self.table.history():
            if _KEY in entry:
                return _decode(entry[_KEY])
            if entry.get("change", {}).get("operation") == "repair":
                # The groups were damaged, and are not there any more.
                return None
        return None

    def read(self) -> pa.Table:
        """Return the groups (GROUPS_SCHEMA), sorted by group, the representative first.

        Raises:
            Damaged: A part of the table is missing, or does not hold what was written.
        """
        paths = sorted(str(part["path"]) for part in self.table.parts)
        try:
            rows = [parquet.read(read_part(self.table.storage, path)) for path in paths]
            return pa.concat_tables([GROUPS_SCHEMA.empty_table(), *rows])
        except (Damaged, OSError, pa.ArrowException) as error:
            raise Damaged(
                f"the table {self.url} is damaged; 'image-features duplicates' makes it anew"
            ) from error

    def replace(self, groups: pa.Table, done: Done) -> None:
        """Replace all groups in one commit.

        Args:
            groups: The new ones (GROUPS_SCHEMA).
            done: What they were made from.

        Raises:
            Refused: Another command wrote groups in the meantime.
            RunFailed: The store does not accept the commit.
        """
        run_id = new_run_id(self._output)
        parts = [_write(self.table, groups, run_id)] if groups.num_rows else []
        commit = Commit(
            run_id, parts, replace_all=True, operation="duplicates", notes={_KEY: asdict(done)}
        )
        with announce_commit(self._output, [self.table.key(part.path) for part in parts]):
            self.table.commit(commit)


def is_ours(table: Table) -> bool:
    """Tell whether a table that is there has the columns that this program gives it."""
    return set(GROUPS_SCHEMA.names) <= set(table.column_names)


def _decode(stored: Any) -> Done | None:
    """Return what a commit noted; None when another version of this program noted it."""
    try:
        return Done(**(json.loads(stored) if isinstance(stored, str) else stored))
    except (TypeError, ValueError):
        return None


def _write(table: Table, groups: pa.Table, run_id: str) -> Part:
    """Write the groups as one part, whose name carries a digest of its content."""
    encoded = parquet.encode(groups)
    path = f"part-{run_id}-{digest(encoded)}.parquet"
    table.storage.write(path, encoded)
    uris = groups["uri"].to_pylist()
    return Part(path, len(encoded), groups.num_rows, {"uri": min(uris)}, {"uri": max(uris)})
