"""Read and commit the Delta tables of an output, and list their versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.tables.table import Table
from transforms.errors import UserError
from transforms.storage import Storage

__all__ = ["Table", "Tables"]


@dataclass(frozen=True, slots=True)
class Tables:
    """The two tables of an output, each in the version that readers saw when it was opened.

    No other code spells the path of a table: a second pair in the same output would be another
    ``Tables``.
    """

    features: Table  # one row per image with a vector
    errors: Table  # one row per image without a vector, with the reason

    @classmethod
    def open(cls, output: Storage) -> Tables:
        """Open the tables of an output.

        Args:
            output: Folder of the tables.

        Returns:
            The tables. One that no run has written yet has version None.

        Raises:
            Damaged: A table's log cannot be read.
            StorageError: The storage does not answer, or the newest entry of a log is incomplete.
        """
        return cls(Table(output, "features"), Table(output, "errors"))

    @classmethod
    def published(cls, output: Storage) -> Tables:
        """Open the tables of an output in which a run has published.

        Args:
            output: Folder of the tables.

        Raises:
            UserError: No run has published there.
            StorageError: The storage does not answer, or the newest entry of a log is incomplete.
        """
        tables = cls.open(output)
        if tables.features.version is None:
            raise UserError(f"nothing in {output.url}: no run has published there")
        return tables

    def __iter__(self) -> Iterator[Table]:
        return iter((self.features, self.errors))

    @property
    def versions(self) -> Mapping[str, int | None]:
        """The version of each table, by the table's name."""
        return {table.name: table.version for table in self}
