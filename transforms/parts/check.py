"""Check one part of a table against the table's log, its own name and its own metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.parts.write import RECIPE_KEY, decode_part, digest
from transforms.recipe import Recipe, recipe_id
from transforms.records import CARRIED, ERRORS_SCHEMA, carried_fields, features_schema
from transforms.storage import NotFound, Storage


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a table; a line of ``verify``."""

    # One of the kinds in docs/operations.md.
    kind: str
    # A file or an image.
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class LoggedPart:
    """A part as described in the table's log."""

    # Key in the output: features/part-….parquet.
    key: str
    size: int  # bytes
    rows: int
    # Min and max recipe id of its rows.
    recipes: frozenset[str]

    @property
    def is_features(self) -> bool:
        """Tell whether this is a part of a features table."""
        return self.key.startswith(("features/", "features-"))


@dataclass(slots=True)
class PartReport:
    """Results of checking a part."""

    problems: list[Problem] = field(default_factory=list)
    uris: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    rows_of_run: Counter[str] = field(default_factory=Counter)
    # From the Parquet metadata.
    recipe: Recipe | None = None
    dimension: int | None = None
    # Rows with all columns, to recompute their vectors.
    picked: pa.Table | None = None

    def add(self, kind: str, where: str, what: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(kind, where, what))


def check_part(storage: Storage, part: LoggedPart, pick: np.ndarray) -> PartReport:
    """Read a whole part and check everything that needs no other part.

    Args:
        storage: The output.
        part: The part as the table's log describes it.
        pick: Positions of the rows to return in the report, int [n].

    Returns:
        The report; a missing part is a problem in it.

    Raises:
        StorageError: If the part cannot be read for any other reason.
    """
    report = PartReport()
    try:
        encoded = storage.read(part.key)
    except NotFound:
        report.add(
            "missing",
            part.key,
            f"the table's log names it, with {part.rows:,} rows, but it does not exist",
        )
        return report
    if len(encoded) != part.size:
        report.add("size", part.key, f"{len(encoded):,} bytes, but the log says {part.size:,}")
    if not part.key.endswith(f"-{digest(encoded)}.parquet"):
        report.add(
            "digest",
            part.key,
            f"its bytes have the digest {digest(encoded)}, but its name has another",
        )
    try:
        table = decode_part(encoded)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        report.add(
            "unreadable",
            part.key,
            f"cannot be read as Parquet: {' '.join(str(error).split())[:200]}",
        )
        return report
    _check_table(table, part, report)
    if len(pick) and report.dimension:
        report.picked = table.take(pick[pick < table.num_rows])
    return report


def _check_table(table: pa.Table, part: LoggedPart, report: PartReport) -> None:
    if table.num_rows != part.rows:
        report.add("rows", part.key, f"{table.num_rows:,} rows, but the log says {part.rows:,}")
    for what in _nulls(table, features_schema(1) if part.is_features else ERRORS_SCHEMA):
        report.add("null", part.key, what)
    if difference := _schema_difference(table.schema, part.is_features):
        report.add("schema", part.key, difference)
        return
    for kind, what in _bad_rows(table):
        report.add(kind, part.key, what)
    report.uris = table["uri"].combine_chunks()
    report.rows_of_run.update(_counts(table["run_id"]))
    if part.is_features:
        report.dimension = table.schema.field("embedding").type.list_size
        _read_recipe(table, part, report)


def _schema_difference(schema: pa.Schema, is_features: bool) -> str:
    wanted = ERRORS_SCHEMA
    if is_features:
        kind = schema.field("embedding").type if "embedding" in schema.names else pa.null()
        if not pa.types.is_fixed_size_list(kind):
            return f"the column embedding is {kind}, not a list of fixed size"
        wanted = features_schema(kind.list_size)
    if is_features and set(CARRIED) <= set(schema.names):
        wanted = pa.schema([*wanted, *carried_fields(schema.field(CARRIED[0]).type)])
    for name in dict.fromkeys([*wanted.names, *schema.names]):
        here, there = (s.field(name) if name in s.names else None for s in (wanted, schema))
        if here is None or there is None or here != there:
            return f"the column {name} is {there or 'missing'}, but should be {here or 'not there'}"
    return (
        ""
        if wanted.names == schema.names
        else f"the columns are in another order: {', '.join(schema.names)}"
    )


def _nulls(table: pa.Table, wanted: pa.Schema) -> Iterator[str]:
    """Yield a text for each column with invalid nulls, also within vectors."""
    for column in (column for column in wanted if column.name in table.column_names):
        nulls = table[column.name].null_count
        if nulls and not column.nullable:
            yield f"{nulls:,} rows without {column.name}"
        elif column.name == "embedding" and (
            nulls := pc.list_flatten(table["embedding"]).null_count
        ):
            yield f"{nulls:,} values of vectors are null"


def _bad_rows(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each problem with the values of a table of the right schema."""
    uris = table["uri"].combine_chunks()
    if len(uris) > 1 and not pc.all(pc.less_equal(uris[:-1], uris[1:])).as_py():
        yield "order", "its rows are not sorted by uri"
    if "embedding" in table.column_names:
        # Chunk by chunk, to avoid a copy of all vectors.
        finite = [_finite(vectors) for vectors in table["embedding"].chunks]
        bad = np.flatnonzero(~np.concatenate([np.ones(0, bool), *finite]))
        if len(bad):
            yield (
                "non_finite",
                f"{len(bad):,} vectors are not finite ({uris[int(bad[0])]} is the first)",
            )


def _finite(vectors: pa.FixedSizeListArray) -> np.ndarray:
    """Tell for each vector whether all its values are finite: bool [N]."""
    values = vectors.flatten().to_numpy().reshape(len(vectors), -1)
    finite: np.ndarray = np.isfinite(values).all(axis=1)
    return finite


def _read_recipe(table: pa.Table, part: LoggedPart, report: PartReport) -> None:
    """Read the recipe from the metadata, and check that the rows and the log name the same."""
    try:
        recipe: Recipe = json.loads((table.schema.metadata or {})[RECIPE_KEY])
        own = recipe_id(recipe)
    except (KeyError, TypeError, ValueError):
        report.add("recipe", part.key, "its Parquet metadata holds no recipe")
        return
    report.recipe = recipe
    for where, ids in (
        ("its rows say", set(_counts(table["recipe"]))),
        ("the log says", part.recipes),
    ):
        if others := sorted(str(other) for other in ids - {own}):
            what = f"{where} {', '.join(others)}, but its Parquet metadata {own}"
            report.add("recipe", part.key, what)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
