"""Show the contents of an output: its tables and its last runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath

from pipeline.reports.beside import lines_beside
from pipeline.reports.readers import how_to_read
from pipeline.reports.text import bar_text, format_table, size_text
from pipeline.state.run import Run, load_runs
from pipeline.tables import Table, Tables, check_name, pair_names
from transforms.errors import UserError
from transforms.names import printable
from transforms.recipe import Recipe
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_RUNS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that has a vector."""

    uri: str
    label: str | None  # the best one
    score: float | None  # of that label
    vector_length: int


@dataclass(frozen=True, slots=True)
class ShownFailure:
    """An image that has no vector."""

    uri: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Samples:
    """The first images of both tables, in the order of their URIs."""

    images: tuple[ShownImage, ...]
    failures: tuple[ShownFailure, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of an output."""

    output: str  # as it was given
    features_url: str
    rows: int
    parts: int
    size: int  # bytes of the parts
    version: int | None  # of the features table; None before the first commit
    # Rows of the errors table by kind, most frequent first.
    failures: Mapping[str, int]
    recipe: Recipe | None
    runs: tuple[Run, ...]  # the last few, newest first
    samples: Samples | None = None  # None if no images were asked for
    # What a reader of Delta must be told about the bucket; no secrets.
    reader_options: Mapping[str, str] = field(default_factory=dict)
    # Names of the other pairs of tables in the output; "" is the first one.
    others: tuple[str, ...] = ()
    # A line for the index and one for the near-duplicates, if they are there.
    beside: tuple[str, ...] = ()

    def __str__(self) -> str:
        version = "none" if self.version is None else str(self.version)
        rows = f"{self.rows:,} rows in {self.parts:,} parts"
        features = self.features_url.rsplit("/", 1)[-1]
        errors = features.replace("features", "errors", 1).ljust(len(features))
        lines = [
            f"{features}  {rows}, {size_text(self.size)}, version {version}",
            f"{errors}  {_failures_text(self.failures)}",
            *_kind_lines(self.failures),
            *self.beside,
        ]
        if further := [name for name in self.others if name]:
            lines.append(f"further tables (--table): {printable(', '.join(further))}")
        if self.recipe:
            fields = sorted(self.recipe.items())
            lines += ["recipe", *(printable(f"  {name:<15} {value}") for name, value in fields)]
        if self.runs:
            table = format_table([_run_row(run) for run in self.runs])
            lines += ["runs, newest first", *(f"  {line}" for line in table.split("\n"))]
        if self.samples:
            lines += ["", *_sample_lines(self.samples)]
            lines += ["", *self._how_to_read()]
        return "\n".join(lines)

    def _how_to_read(self) -> list[str]:
        place = f"{self.output.rstrip('/')}/{self.features_url.rsplit('/', 1)[-1]}"
        return [
            f"the table lies in {self.features_url}; read it with (a glob would also take parts "
            "that are not published)",
            *how_to_read(place, self.reader_options),
        ]


def show(
    output: str | PathLike[str], max_rows: int = 0, stores: Stores = (), table: str = ""
) -> Contents:
    """Read the tables and the last runs.

    Args:
        output: Folder or URL of the tables.
        max_rows: The maximum number of images to show of each table; 0 for none.
        stores: Where buckets are.
        table: Name of the pair of tables; "" for the first one.

    Raises:
        UserError: No run has written there.
    """
    output = fspath(output)
    storage = open_storage(output, stores)
    if table:
        check_name(storage, table)
    tables = Tables.open(storage, table)
    features, errors = tables.features, tables.errors
    runs = load_runs(storage, limit=_RUNS_SHOWN, table=table)
    if features.version is None and not runs:
        raise UserError(f"nothing in {output}: no run has written there")
    kinds = Counter(errors.read(["kind"])["kind"].to_pylist())
    return Contents(
        output=output,
        features_url=features.url,
        rows=sum(part["num_records"] for part in features.parts),
        parts=len(features.parts),
        size=sum(part["size_bytes"] for part in features.parts),
        version=features.version,
        failures=dict(kinds.most_common()),
        recipe=features.recipe(),
        runs=tuple(runs),
        samples=_samples(features, errors, max_rows) if max_rows else None,
        reader_options=storage.delta_options,
        others=tuple(name for name in pair_names(storage) if name != table),
        beside=tuple(lines_beside(storage, features)),
    )


def _samples(features: Table, errors: Table, max_rows: int) -> Samples:
    table = features.read(["uri", "label", "score", "embedding"]).sort_by("uri").slice(0, max_rows)
    failed = errors.read(["uri", "kind", "message"]).sort_by("uri").slice(0, max_rows)
    images = []
    for row in table.to_pylist():
        length = len(row["embedding"])
        images.append(ShownImage(row["uri"], row["label"], row["score"], length))
    return Samples(tuple(images), tuple(ShownFailure(**row) for row in failed.to_pylist()))


def _sample_lines(samples: Samples) -> list[str]:
    """Return lines for the images with their best label, and the failed ones with the reason."""
    rows = [("file", "label", "score", "vector length")]
    for image in samples.images:
        score = "" if image.score is None else f"{image.score:.2f}"
        rows.append((_name(image.uri), image.label or "", score, str(image.vector_length)))
    lines = format_table(rows).split("\n")
    if samples.failures:
        lines += ["", "failed"]
    for failed in samples.failures:
        lines.append(printable(f"  {_name(failed.uri)}: {failed.kind}: {failed.message}"))
    return lines


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _failures_text(kinds: Mapping[str, int]) -> str:
    if not kinds:
        return "none"
    total = sum(kinds.values())
    return f"{total:,} image{'s' if total > 1 else ''} without a vector, by kind"


def _kind_lines(kinds: Mapping[str, int]) -> list[str]:
    """Return a line for each kind of failure, with its share of all."""
    total = sum(kinds.values())
    rows = [
        (kind, f"{count:,}", f"{count / total:.0%}", bar_text(count / total))
        for kind, count in kinds.items()
    ]
    return [f"  {line}" for line in format_table(rows).split("\n")] if rows else []


def _run_row(run: Run) -> tuple[str, ...]:
    """Return what the table of runs says of one."""
    names = ("listed", "embedded", "reused", "unchanged", "failed", "removed")
    if run.summary:
        return run.run_id, run.state, *(f"{name} {run.summary[name]:,}" for name in names)
    said = "not finished: the same command resumes it" if run.state == "planned" else ""
    return run.run_id, run.state, said, *("" for _ in names[1:])
