"""Verify an output: read every part, and on request compute a sample of the vectors again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike, fspath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.maintenance.groups import groups_problems
from pipeline.maintenance.indexes import index_problems
from pipeline.state.run import load_run, unfinished_run
from pipeline.tables import Tables
from pipeline.tables.history import last_run, versions_of
from pipeline.tables.table import Table
from transforms.backbones.export import model_id_of
from transforms.containers.index import Indexes
from transforms.engines.models import load_model
from transforms.errors import UserError
from transforms.parts.check import LoggedPart, PartReport, Problem, check_part
from transforms.recipe import Recipe, resize_in
from transforms.recompute import Recomputed, recompute
from transforms.storage import Storage, StorageError, open_storage
from transforms.storage.settings import Stores

# Parts checked at once. A part of the size that compaction aims at takes some 400 MB.
_CHECKS = 2
_SEED = 2026


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and all problems that were found."""

    output: str
    table: str  # the features table
    version: int
    rows: int
    parts: int
    failures: int  # rows of the errors table
    problems: tuple[Problem, ...]
    sample: Recomputed | None = None

    @property
    def clean(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if self.sample:
            lines.append(f"sample: {self.sample}")
        verdict = "clean" if self.clean else f"{len(self.problems):,} problems"
        checked = (
            f"version {self.version} of {self.output}/{self.table}, "
            f"{self.rows:,} rows in {self.parts:,} parts"
        )
        return "\n".join([*lines, f"{verdict}: {checked}; {self.failures:,} failures"])


@dataclass(frozen=True, slots=True)
class _Checked:
    """One table, and the report on each of its parts."""

    table: Table
    parts: Sequence[LoggedPart]
    reports: Sequence[PartReport]
    # Of all rows: some 100 MB per million.
    uris: pa.ChunkedArray
    rows_of_run: Counter[str]


def verify(
    output: str | PathLike[str], sample: int = 0, stores: Stores = (), table: str = ""
) -> Verification:
    """Check the newest version of both tables, and compute a sample of the vectors again.

    Damage is a problem in the result and raises nothing.

    Args:
        output: Folder or URL of the tables.
        sample: Number of images to compute again. The same version of the table always gives the
            same sample.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Returns:
        The counts and the problems.

    Raises:
        UserError: No run has published there.
        StorageError: The output cannot be read.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    tables = Tables.published(storage, table)
    features, errors = (
        _check(own, storage, sample if own.kind == "features" else 0) for own in tables
    )
    problems = [problem for checked in (features, errors) for problem in _problems(checked)]
    problems += _between(features, errors, storage)
    problems += index_problems(features.table, storage)
    problems += groups_problems(features.table, storage)
    recomputed = None
    if sample:
        recomputed = _recompute(features, storage, problems, stores)
    return Verification(
        output=output.rstrip("/"),
        table=tables.features.name,
        version=tables.features.version or 0,
        rows=len(features.uris),
        parts=len(features.parts),
        failures=len(errors.uris),
        problems=tuple(problems),
        sample=recomputed,
    )


def _check(table: Table, storage: Storage, sample: int) -> _Checked:
    """Read all parts of a table, and keep the rows of its sample."""
    parts = [
        LoggedPart(
            key=table.key(part["path"]),
            size=part["size_bytes"],
            rows=part["num_records"],
            recipes=frozenset({part["min.recipe"], part["max.recipe"]}),
        )
        for part in sorted(table.parts, key=lambda part: str(part["path"]))
    ]
    picks = _picks([part.rows for part in parts], sample, table.version or 0)
    with ThreadPoolExecutor(_CHECKS) as pool:
        reports = list(pool.map(lambda part, pick: check_part(storage, part, pick), parts, picks))
    rows_of_run: Counter[str] = Counter()
    for report in reports:
        rows_of_run.update(report.rows_of_run)
    uris = pa.chunked_array([report.uris for report in reports], pa.string())
    return _Checked(table, parts, reports, uris, rows_of_run)


def _picks(rows: Sequence[int], sample: int, version: int) -> list[np.ndarray]:
    """Draw a uniform sample of all rows without repetition: the row numbers per part, int64 [n]."""
    total = sum(rows)
    chosen = np.sort(np.random.default_rng((_SEED, version)).permutation(total)[:sample])
    starts = np.cumsum([0, *rows])
    return [chosen[(chosen >= start) & (chosen < end)] - start for start, end in pairwise(starts)]


def _problems(checked: _Checked) -> Iterator[Problem]:
    """Yield the problems within one table."""
    for report in checked.reports:
        yield from report.problems
    versions = versions_of(checked.table.history())
    change = versions[0].change if versions else None
    logged = sum(part.rows for part in checked.parts)
    if change and change.rows != logged:
        what = (
            f"version {versions[0].number} was committed with {change.rows:,} rows, "
            f"and its parts have {logged:,}"
        )
        yield Problem("history", checked.table.name, what)
    counts = checked.uris.value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        what = (
            f"{len(twice):,} images have more than one row ({min(twice.to_pylist())} is the first)"
        )
        yield Problem("duplicate", checked.table.name, what)
    recipes = {str(sorted(report.recipe.items())) for report in checked.reports if report.recipe}
    if len(recipes) > 1:
        yield Problem(
            "recipe", checked.table.name, f"its parts were made with {len(recipes)} recipes"
        )
    dimensions = sorted({report.dimension for report in checked.reports if report.dimension})
    if len(dimensions) > 1:
        yield Problem("schema", checked.table.name, f"vectors of different lengths: {dimensions}")


def _between(features: _Checked, errors: _Checked, storage: Storage) -> Iterator[Problem]:
    """Yield the problems between the tables, and between them and the receipts of their run."""
    run = unfinished_run(storage)
    if run and errors.table.has_run(run.run_id) and not features.table.has_run(run.run_id):
        what = (
            "was interrupted between the commits of the two tables; "
            "run its command again, and then verify"
        )
        yield Problem("unfinished", f"run {run.run_id}", what)
        return
    both = errors.uris.filter(pc.is_in(errors.uris, value_set=features.uris.combine_chunks()))
    if len(both):
        what = f"{len(both):,} images are in both tables ({min(both.to_pylist())} is the first)"
        where = f"{features.table.name} and {errors.table.name}"
        yield Problem("overlap", where, what)
    run_id = last_run(versions_of(features.table.history()))
    if run_id:
        rows, failures = features.rows_of_run[run_id], errors.rows_of_run[run_id]
        yield from (
            Problem("receipts", f"runs/{run_id}", what)
            for what in _receipts(storage, run_id, features.table.pair, rows, failures)
        )


def _receipts(storage: Storage, run_id: str, pair: str, rows: int, failures: int) -> Iterator[str]:
    """Describe how the receipts of a run contradict the tables' rows of this run."""
    run = load_run(storage, run_id, pair)
    if run is None:
        yield "the note of the run that wrote this version is not there"
        return
    receipts = run.receipts(storage)
    if missing := sorted(set(run.shards) - {receipt.shard for receipt in receipts}):
        yield (
            f"{len(missing):,} of {len(run.shards):,} shards have no receipt "
            f"({missing[0]} is the first)"
        )
    for receipt in receipts:
        done = receipt.rows + len(receipt.failures)
        if done != receipt.references:
            yield (
                f"{receipt.shard} has {receipt.references:,} images, "
                f"and its receipt accounts for {done:,}"
            )
    for table, there, said in (
        ("features", rows, sum(receipt.rows for receipt in receipts)),
        ("errors", failures, sum(len(receipt.failures) for receipt in receipts)),
    ):
        if there != said:
            yield f"the {table} table has {there:,} rows of this run, and its receipts say {said:,}"


def _recompute(
    features: _Checked, storage: Storage, problems: list[Problem], stores: Stores
) -> Recomputed:
    """Compute the sample's vectors again, and add what is wrong to ``problems``."""
    first = next((report for report in features.reports if report.recipe), None)
    if first is None:
        return Recomputed()
    recipe: Recipe = first.recipe or {}
    picked = [
        report.picked
        for report in features.reports
        if report.picked is not None and report.dimension == first.dimension
    ]
    if not picked:
        return Recomputed()
    model = model_id_of(recipe)
    if not storage.exists(f"models/{model}/model.json"):
        problems.append(
            Problem("model", f"models/{model}", "the network that made the vectors is not there")
        )
        return Recomputed()
    try:
        resize_in(recipe)
        folder = load_model(storage, model)
    except (StorageError, UserError) as error:
        problems.append(Problem("model", f"models/{model}", str(error)))
        return Recomputed()
    result = recompute(
        pa.concat_tables(picked, promote_options="permissive"),
        recipe,
        folder,
        stores,
        Indexes(storage, write=False),
    )
    problems += result.problems
    return result
