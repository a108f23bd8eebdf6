"""What is in an output, and which backbones there are: text for a terminal."""

from __future__ import annotations

from collections import Counter

from pipeline.reports.text import format_table, size_text
from pipeline.state.run import Run, load_runs
from pipeline.tables import Table, Tables
from transforms.errors import UserError
from transforms.names import printable
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_RUNS_SHOWN = 5
_WEIGHTS = {"embedded": "embedded", "keras": "downloaded by Keras, or --weights PATH"}


def show(output: str, most_rows: int = 0, stores: Stores = ()) -> str:
    """Rows, recipe, last runs with their counts, failures by kind, size; with ``most_rows`` images one by one."""
    storage = open_storage(output, stores)
    tables = Tables.open(storage)
    features, errors = tables.features, tables.errors
    runs = load_runs(storage, most=_RUNS_SHOWN)
    if features.version is None and not runs:
        raise UserError(f"nothing in {output}: no run has written there")
    parts = features.parts
    rows = sum(part["num_records"] for part in parts)
    size = sum(part["size_bytes"] for part in parts)
    lines = [
        f"features  {rows:,} rows in {len(parts):,} parts, {size_text(size)}, version {_version(features.version)}",
        f"errors    {_failures(errors)}",
    ]
    recipe = features.recipe()
    if recipe:
        lines += ["recipe", *(printable(f"  {name:<15} {value}") for name, value in sorted(recipe.items()))]
    if runs:
        lines += ["runs, newest first", *(printable(f"  {_run_line(run)}") for run in runs)]
    if most_rows:
        lines += ["", *_images(features, errors, most_rows), "", *_how_to_read(features, output)]
    return "\n".join(lines)


def _images(features: Table, errors: Table, most: int) -> list[str]:
    """The first images with their best label, and those that failed with the reason."""
    table = features.read(["uri", "label", "score", "embedding"]).sort_by("uri").slice(0, most)
    rows = [("file", "label", "score", "vector length")]
    for row in table.to_pylist():
        score = "" if row["score"] is None else f"{row['score']:.2f}"
        rows.append((_name(row["uri"]), row["label"] or "", score, str(len(row["embedding"]))))
    lines = format_table(rows).split("\n")
    failed = errors.read(["uri", "kind", "message"]).sort_by("uri").slice(0, most).to_pylist()
    if failed:
        lines += ["", "failed"]
    return lines + [printable(f"  {_name(row['uri'])}: {row['kind']}: {row['message']}") for row in failed]


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _how_to_read(features: Table, output: str) -> list[str]:
    place = f"{output.rstrip('/')}/{features.name}"
    files = f"deltalake.DeltaTable({place!r}).file_uris()"
    return [
        f"the table lies in {features.url}; read it with (a glob would also take parts that are not published)",
        f"  pyarrow  import deltalake, pyarrow.dataset as ds; ds.dataset({files}).to_table()",
        f"  pandas   import deltalake; deltalake.DeltaTable({place!r}).to_pandas()",
        f"  DuckDB   import deltalake, duckdb; duckdb.read_parquet({files}).select('uri, label, score')",
    ]


def _failures(errors: Table) -> str:
    kinds = Counter(errors.read(["kind"])["kind"].to_pylist())
    if not kinds:
        return "none"
    return f"{kinds.total():,} images: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())


def _run_line(run: Run) -> str:
    counts = "not finished: the same command takes it up" if run.state == "planned" else ""
    if run.summary:
        names = ("listed", "embedded", "reused", "unchanged", "failed", "removed")
        counts = ", ".join(f"{name} {run.summary[name]:,}" for name in names)
    return f"{run.run_id}  {run.state:<10} {counts}"


def _version(version: int | None) -> str:
    return "none" if version is None else str(version)


def backbones_table() -> str:
    """Name, vector length, input size, parameters and where the weights come from, a line each."""
    from transforms.backbones import BACKBONES

    rows = [("name", "vector", "input", "parameters", "weights")]
    for backbone in BACKBONES.values():
        rows.append(
            (
                backbone.name,
                str(backbone.dimension),
                f"{backbone.size}×{backbone.size}",
                f"{backbone.parameters:.1f} M",
                _WEIGHTS[backbone.weights],
            )
        )
    rows.append(
        (
            "PATH of a .keras, .h5 or SavedModel",
            "its own",
            "its own",
            "its own",
            "must be given: they are in the file",
        )
    )
    return format_table(rows)
