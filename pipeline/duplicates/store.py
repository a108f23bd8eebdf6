"""The Delta table of duplicates, and which version of the features it stands for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.tables.delta import commit_error, delta_url, read_delta
from pipeline.tables.log import check_newest_entry
from transforms.errors import Damaged, Refused, RunFailed
from transforms.storage import Storage

# One row per image of a group. The row of the representative has the cosine 1 and 0 bits.
SCHEMA = pa.schema(
    [
        pa.field("group", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("representative", pa.string(), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
        # Differing bits of the perceptual hashes; 0 for equal bytes.
        pa.field("hamming", pa.int32(), nullable=False),
    ]
)
# The entry of a commit's metadata that holds ``Done``.
_KEY = "duplicates"


@dataclass(frozen=True, slots=True)
class Done:
    """What the groups were made from."""

    table_id: str
    recipe: str
    version: int  # of the features table
    cosine: float


class Store:
    """The table of duplicates as it was when it was opened.

    Args:
        output: Folder of the tables.
        name: Name of the pair of tables; "" for the first one.

    Raises:
        StorageError: The storage does not answer, or the table's log cannot be read.
    """

    def __init__(self, output: Storage, name: str = "") -> None:
        storage = output.folder(f"duplicates-{name}" if name else "duplicates")
        self.url = storage.url
        self._options = storage.delta_options
        self._delta: Any = None
        if check_newest_entry(storage):
            from deltalake import DeltaTable

            self._delta = read_delta(
                self.url, lambda: DeltaTable(delta_url(self.url), storage_options=self._options)
            )

    def done(self) -> Done | None:
        """Return what the groups were made from; None when there are none."""
        if self._delta is None:
            return None
        for entry in read_delta(self.url, lambda: list(self._delta.history())):
            if _KEY in entry:
                stored = entry[_KEY]
                return Done(**(json.loads(stored) if isinstance(stored, str) else stored))
        return None

    def read(self) -> pa.Table:
        """Return the groups (SCHEMA).

        Raises:
            Damaged: A file of the table cannot be read.
        """
        if self._delta is None:
            return SCHEMA.empty_table()
        try:
            rows = read_delta(self.url, lambda: self._delta.to_pyarrow_table(columns=SCHEMA.names))
        except (Damaged, OSError, pa.ArrowException) as error:
            raise Damaged(
                f"the table {self.url} is damaged; 'image-features duplicates' makes it anew"
            ) from error
        return pa.table(rows).cast(SCHEMA)

    def replace(self, groups: pa.Table, done: Done) -> None:
        """Replace all groups in one commit.

        Args:
            groups: The new ones (SCHEMA).
            done: What they were made from.

        Raises:
            Refused: Another command wrote groups in the meantime.
            RunFailed: The store does not accept the commit.
        """
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import DeltaError

        # A number of retries other than 0 would commit over what another command wrote.
        noted = CommitProperties(custom_metadata={_KEY: asdict(done)}, max_commit_retries=0)
        try:
            if self._delta is None:
                write_deltalake(
                    delta_url(self.url), groups, mode="error", commit_properties=noted,
                    storage_options=self._options,
                )  # fmt: skip
            else:
                write_deltalake(self._delta, groups, mode="overwrite", commit_properties=noted)
        except (DeltaError, OSError) as error:
            if self._was_overtaken():
                raise Refused(
                    f"another command wrote {self.url} in the meantime; this one wrote nothing. "
                    "Run the same command again."
                ) from error
            raise RunFailed(f"cannot commit to {self.url}: {commit_error(error)}") from error

    def _was_overtaken(self) -> bool:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            newest = DeltaTable(delta_url(self.url), storage_options=self._options).version()
        except (DeltaError, OSError):
            return False
        return self._delta is None or bool(newest != self._version)

    @property
    def _version(self) -> int:
        return int(self._delta.version())
