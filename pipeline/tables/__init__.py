"""Read and commit the Delta tables of an output, and list their versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.tables.table import Table
from pipeline.targets import TABLE_NAME
from transforms.errors import UserError
from transforms.storage import Storage

__all__ = [
    "Table",
    "Tables",
    "check_name",
    "groups_name",
    "groups_table",
    "is_groups",
    "is_table",
    "pair_names",
]


@dataclass(frozen=True, slots=True)
class Tables:
    """A pair of tables of an output, each in the version that readers saw when it was opened.

    A run with several backbones has a pair for each: ``features`` and ``errors`` for the first,
    ``features-NAME`` and ``errors-NAME`` for another. No other code spells the path of a table.
    """

    features: Table  # one row per image with a vector
    errors: Table  # one row per image without a vector, with the reason

    @classmethod
    def open(cls, output: Storage, name: str = "") -> Tables:
        """Open a pair of tables.

        Args:
            output: Folder of the tables.
            name: Name of the pair; "" for the first one.

        Returns:
            The tables. One that no run has written yet has version None.

        Raises:
            Damaged: A table's log cannot be read.
            StorageError: The storage does not answer, or the newest entry of a log is incomplete.
        """
        ends = f"-{name}" if name else ""
        return cls(Table(output, f"features{ends}"), Table(output, f"errors{ends}"))

    @classmethod
    def published(cls, output: Storage, name: str = "") -> Tables:
        """Open a pair of tables in which a run has published.

        Args:
            output: Folder of the tables.
            name: Name of the pair; "" for the first one.

        Raises:
            UserError: No run has published there.
            StorageError: The storage does not answer, or the newest entry of a log is incomplete.
        """
        if name:
            check_name(output, name)
        tables = cls.open(output, name)
        if tables.features.version is None:
            raise UserError(f"nothing in {output.url}: no run has published there")
        return tables

    @property
    def name(self) -> str:
        """The name of the pair; "" for the first one."""
        return self.features.pair

    def __iter__(self) -> Iterator[Table]:
        return iter((self.features, self.errors))

    @property
    def versions(self) -> Mapping[str, int | None]:
        """The version of each table, by the table's name."""
        return {table.name: table.version for table in self}


def pair_names(output: Storage) -> list[str]:
    """Return the names of all pairs of tables in an output, the first one, "", included."""
    found = {folder.partition("-")[2] for folder in output.folders("") if is_table(folder)}
    return sorted(found | {""})


def is_table(folder: str) -> bool:
    """Tell whether a folder of an output has the name of a table."""
    return bool(re.fullmatch(rf"(features|errors)(-{TABLE_NAME})?", folder))


def groups_table(output: Storage, name: str = "") -> Table:
    """Open the table of near-duplicates that belongs to a pair of tables.

    Args:
        output: Folder of the tables.
        name: Name of the pair; "" for the first one.

    Returns:
        The table. One that no command has written yet has version None.

    Raises:
        StorageError: The storage does not answer, or the newest entry of the log is incomplete.
    """
    return Table(output, groups_name(name))


def groups_name(name: str) -> str:
    """Return the name of the table of near-duplicates that belongs to a pair of tables."""
    return f"duplicates-{name}" if name else "duplicates"


def is_groups(folder: str) -> bool:
    """Tell whether a folder of an output has the name of a table of near-duplicates."""
    return bool(re.fullmatch(rf"duplicates(-{TABLE_NAME})?", folder))


def check_name(output: Storage, name: str) -> None:
    """Check that an output has a pair of tables of this name.

    Raises:
        UserError: It has none.
    """
    known = pair_names(output)
    if name not in known:
        others = ", ".join(filter(None, known)) or "only the first pair, which needs no --table"
        raise UserError(
            f"--table {name}: no run has published a table features-{name} in {output.url}; "
            f"there are: {others}"
        )
