"""Commit to the Delta tables of an output.

Delta (``deltalake``, https://delta.io) gives atomic commits of many files with conditional puts, on
local disk and on object stores, without a server; see docs/decisions/0001-shards-and-delta.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pyarrow as pa

from pipeline.tables.commit import Commit, difference
from pipeline.tables.delta import (
    add_action,
    commit_error,
    commit_properties,
    holds_run,
    is_there_already,
    missing_fields,
    remove_action,
)
from pipeline.tables.history import Change
from pipeline.tables.log import make_durable
from pipeline.tables.snapshot import Snapshot
from transforms.errors import Refused, RunFailed
from transforms.parts.write import BOUNDED, Part
from transforms.recipe import Recipe
from transforms.records import carried_fields
from transforms.storage.retries import broke_off, wait_before

_LOG = logging.getLogger(__name__)
# Parts rewritten at once. Each takes some 40 MB, and spends most of its time on compression without
# the GIL.
_REWRITES = 4


class Table(Snapshot):
    """A table that a command may change: each change is one commit on top of the opened version."""

    def rewrite_without(
        self, uris: pa.Array, run_id: str, recipe: Recipe
    ) -> tuple[list[Part], list[str]]:
        """Rewrite the parts that hold rows of some images, without these rows.

        The table changes only when the result is committed.

        Args:
            uris: The images, strings [n].
            run_id: The run that the new parts belong to.
            recipe: The recipe of the rows.

        Returns:
            The new parts, and the paths of the old ones.

        Raises:
            Damaged: A part cannot be read.
        """
        from transforms.parts.rewrite import rewrite_part

        known = self.read(["uri", "__filename"])
        stale = known.filter(pa.compute.is_in(known["uri"], value_set=uris))
        old = sorted(
            {str(path).rsplit("/", 1)[-1] for path in stale["__filename"].unique().to_pylist()}
        )
        with ThreadPoolExecutor(_REWRITES) as pool:
            new = list(
                pool.map(lambda path: rewrite_part(self.storage, path, uris, run_id, recipe), old)
            )
        return [part for part in new if part is not None], old

    def commit(self, commit: Commit) -> int:
        """Commit atomically on top of the version that was opened.

        A second call for the same run adds no second commit.

        Returns:
            The new version.

        Raises:
            Refused: Another writer was faster.
            RunFailed: The store does not accept the commit.
        """
        from deltalake.transaction import create_table_with_add_actions

        if self.has_run(commit.run_id):
            return self.complete(commit.run_id, commit.source)
        schema = self._schema_with(commit.source)
        properties = commit_properties(commit.run_id, commit.change(self), notes=commit.notes)
        fresh = commit.operation != "compact"
        adds = [add_action(part, fresh) for part in commit.add]
        gone = (
            []
            if commit.replace_all
            else [part for part in self.parts if part["path"] in commit.remove]
        )

        def write() -> None:
            if self._delta is None:
                create_table_with_add_actions(
                    self._delta_url, schema, adds, mode="error", configuration=self._configuration,
                    storage_options=self._options, commit_properties=properties,
                )  # fmt: skip
            else:
                removes = [remove_action(part, fresh) for part in gone]
                mode = "overwrite" if commit.replace_all else "append"
                self._delta.create_write_transaction(
                    adds + removes, mode, schema, commit_properties=properties
                )

        version = self._transact(commit.run_id, write)
        return self._add_columns(commit.run_id, schema) or version

    @property
    def _configuration(self) -> dict[str, str]:
        """What the table tells deltalake: which columns have bounds in its log.

        Otherwise deltalake takes the bounds of all other columns for null, and a reader's filter on
        them finds nothing.
        """
        bounded = [name for name in BOUNDED if name in self.schema.names]
        return {"delta.dataSkippingStatsColumns": ",".join(bounded)}

    def complete(self, run_id: str, source: pa.DataType | None) -> int:
        """Complete the commit of a run that may have been killed right after it.

        Args:
            run_id: The run, whose commit is in the table.
            source: As in ``Commit``.

        Returns:
            The new version, which has the run's columns.
        """
        # Flush all commits to the disk: the killed process may have left one that is not durable.
        make_durable(self.url, 0)
        added = self._add_columns(run_id, self._schema_with(source))
        return added or int(self._delta.version())

    def _schema_with(self, source: pa.DataType | None) -> Any:
        from deltalake import Schema

        carried = carried_fields(source) if source else ()
        return Schema.from_arrow(pa.schema([*self.schema, *carried]))

    def _add_columns(self, run_id: str, schema: Any) -> int | None:
        """Commit the columns that the table was made before; None if it has all.

        Delta takes no columns together with parts. Until this commit, readers of the table only
        miss the new columns. So it comes second, and whoever resumes the run repeats it.
        """
        fields = missing_fields(self._delta, schema)
        if not fields:
            return None
        rows = sum(part["num_records"] for part in self.parts)
        properties = commit_properties(run_id, Change("add_columns", rows, 0, 0), step=2)
        return self._transact(
            run_id, lambda: self._delta.alter.add_columns(fields, commit_properties=properties)
        )

    def restore(self, version: int, run_id: str) -> int:
        """Commit the parts of an earlier version on top of the version that was opened.

        Args:
            version: The earlier version.
            run_id: The id of the rollback.

        Returns:
            The new version.

        Raises:
            Refused: Another writer was faster.
            RunFailed: The store does not accept the commit.
            Damaged: A part of the earlier version cannot be read.
        """
        change = Change("rollback", *difference(self, self.at(version)), restored=version)
        properties = commit_properties(run_id, change)
        return self._transact(
            run_id, lambda: self._delta.restore(version, commit_properties=properties)
        )

    def _transact(self, run_id: str, write: Callable[[], None]) -> int:
        """Write a commit, with retries, and return the new version.

        A retry follows when the connection broke, and when the store wrongly says that the version
        already exists: a proxy repeated the request, or S3 could not decide between two tries of
        one request.
        """
        from deltalake.exceptions import DeltaError

        for attempt in count(1):
            try:
                write()
                break
            except (DeltaError, OSError) as error:
                if self._is_done(run_id, error):
                    break
                if not ((broke_off(error) or is_there_already(error)) and wait_before(attempt)):
                    raise RunFailed(
                        f"cannot commit to {self.url}: {commit_error(error)}. Nothing was "
                        "published there. Run the same command again: it resumes the run."
                    ) from error
        first = 0 if self.version is None else self.version + 1
        self._delta = self._open()
        make_durable(self.url, first)
        return int(self._delta.version())

    def _is_done(self, run_id: str, error: Exception) -> bool:
        """Tell whether a failed commit of this run exists; raise ``Refused`` if another run's does.

        It exists when an answer was lost on its way, or when the same command is running twice and
        the other process, which works on the same run, was first.
        """
        current = self._open()
        if current and holds_run(current, self.url, run_id):
            _LOG.info(
                "run %s is in %s already: an answer was lost, or another process was at work on "
                "the same run",
                run_id,
                self.url,
            )
            return True
        if (current.version() if current else None) != self.version:
            raise Refused(
                f"another run published to {self.url} in the meantime; this one published nothing "
                "there. Run the same command again."
            ) from error
        return False
