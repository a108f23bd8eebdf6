"""Select rows by a condition in SQL, which may read the table's columns and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from pipeline.tables.table import Table
from transforms.errors import UserError, first_line
from transforms.extras import install_command

# With these settings a condition reaches no file, no network, no variable of this process.
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
    "memory_limit": "2GB",
    # Nothing is spilled to a file.
    "temp_directory": "",
}


def matching_uris(table: Table, condition: str, seconds: float | None = None) -> pa.Array:
    """Return the uris of the rows for which a condition holds: strings [n].

    Args:
        table: The features table.
        condition: DuckDB's SQL over the columns, such as ``label = 'tripod' AND width > 500``.
            Vectors cannot be used in it.
        seconds: How long DuckDB may compute; None for as long as it takes.

    Raises:
        UserError: The condition is no valid SQL, takes another column, reaches for a file, or
            takes too long; or DuckDB is not installed.
        Damaged: A part cannot be read.
        StorageError: The bucket does not answer.
    """
    try:
        import duckdb
    except ImportError as error:
        raise UserError(f"--where needs DuckDB. {install_command('search')}") from error

    def select(rows: Any) -> pa.Array:
        with (
            duckdb.connect(":memory:", config=_CLOSED) as connection,
            _limit(connection.interrupt, seconds),
        ):
            relation = connection.from_arrow(rows)
            names = [name for name in relation.columns if name != "embedding"]
            relation = relation.project(", ".join(map(_quoted, names)))
            found = relation.filter(condition).project("uri").to_arrow_table()
        return found["uri"].combine_chunks()

    try:
        return table.scan(select)
    except duckdb.InterruptException as error:
        raise UserError(
            f"--where {condition!r}: took longer than {seconds:g} seconds, which are allowed here. "
            "Write a condition that looks at each row once; 'image-features search --where' has no "
            "limit"
        ) from error
    except duckdb.Error as error:
        if isinstance(error, duckdb.IOException | duckdb.InvalidInputException):
            # A part that cannot be read raises them; so does a pattern such as '('.
            _check_readable(table)
        columns = ", ".join(name for name in table.column_names if name != "embedding")
        raise UserError(
            f"--where {condition!r}: {first_line(error)}. Write a condition in DuckDB's SQL over "
            f"the columns {columns}, such as \"label = 'tripod'\""
        ) from error


@contextmanager
def _limit(interrupt: Callable[[], None], seconds: float | None) -> Iterator[None]:
    """Interrupt what takes longer: again and again, since it may not have started yet."""
    if seconds is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            interrupt()

    watching = threading.Thread(target=watch, name="where", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _check_readable(table: Table) -> None:
    """Read all columns that a condition may use.

    Raises:
        Damaged: A part cannot be read.
        StorageError: The bucket does not answer.
    """
    names = [name for name in table.column_names if name != "embedding"]

    def read(rows: Any) -> pa.Table:
        for _ in rows.scanner(columns=names).to_batches():
            pass
        return rows.schema.empty_table()

    table.scan(read)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
