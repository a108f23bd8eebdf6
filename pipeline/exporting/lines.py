"""``--to open``: the lines that open a table where it lies, for readers that need no copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from urllib.parse import quote

from pipeline.exporting.shape import dimension_of
from pipeline.reports.readers import how_to_read
from pipeline.tables import Tables
from pipeline.tables.table import Table
from transforms.storage import open_storage
from transforms.storage.settings import Stores
from transforms.storage.urls import local_path

# Names of parts that a statement lists. A longer list is not for pasting.
_NAMED = 50


@dataclass(frozen=True, slots=True)
class Line:
    """How one reader opens the table."""

    reader: str
    code: str  # Python, SQL or shell

    def __str__(self) -> str:
        return f"{self.reader}\n{self.code}\n"


def open_lines(output: str | PathLike[str], table: str = "", stores: Stores = ()) -> list[Line]:
    """Return the lines that open a features table.

    Args:
        output: Folder or URL of the tables.
        table: Name of the pair of tables; "" for the first one.
        stores: Where buckets are.

    Raises:
        UserError: No run has published there.
        StorageError: The storage does not answer.
    """
    opened = Tables.published(open_storage(fspath(output), stores), table).features
    options = opened.storage.delta_options
    known = [line.split(maxsplit=1) for line in how_to_read(opened.url, options)]
    return [
        *(Line(name, code) for name, code in known),
        *_python(opened.url, options),
        Line("Spark", f"spark.read.format('delta').load({opened.url!r})"),
        *_warehouses(opened.url, opened),
    ]


def _python(place: str, options: Mapping[str, str]) -> Iterator[Line]:
    """Yield lines of Python besides those of ``how_to_read``."""
    more = f", storage_options={dict(options)!r}" if options else ""
    table = f"deltalake.DeltaTable({place!r}{more})"
    path = local_path(place)
    if path is None:
        # The libraries' own readers of buckets need other settings than the reader of Delta.
        arrow = f"{table}.to_pyarrow_table()"
        yield Line("Polars", f"import deltalake, polars; polars.from_arrow({arrow})")
        yield Line(
            "Hugging Face datasets",
            f"import datasets, deltalake; datasets.Dataset({arrow})",
        )
        return
    files = f"{table}.file_uris()"
    if quote(str(path)) != str(path):
        # file_uris() percent-encodes a path, and these readers do not decode it.
        files = f"[urllib.parse.unquote(file) for file in {files}]"
    yield Line("Polars", f"import deltalake, polars, urllib.parse; polars.read_parquet({files})")
    yield Line(
        "Hugging Face datasets",
        "import datasets, deltalake, urllib.parse; datasets.load_dataset('parquet', "
        f"split='train', data_files={files})",
    )
    yield Line(
        "LanceDB",
        "import deltalake, lancedb, pyarrow.dataset as ds, urllib.parse; "
        f"lancedb.connect('lance').create_table('features', ds.dataset({files}).to_table())",
    )


def _warehouses(place: str, table: Table) -> list[Line]:
    """Return the statements of services, which could not be run here."""
    parts = sorted(str(part["path"]) for part in table.parts)
    named = parts if len(parts) <= _NAMED else []
    uris = ", ".join(_sql(f"{place}/{path}") for path in named) or _sql(f"{place}/part-*.parquet")
    all_parts = "" if named else "-- Run vacuum first, so that no removed part lies there.\n"
    return [
        Line(
            "BigQuery",
            f"{all_parts}LOAD DATA OVERWRITE DATASET.features FROM FILES (format = 'PARQUET', "
            f"enable_list_inference = TRUE, uris = [{uris}]);\n"
            "SELECT base.uri, distance FROM VECTOR_SEARCH(TABLE DATASET.features, 'embedding', "
            "(SELECT embedding FROM DATASET.features WHERE uri = 'URI'), top_k => 10, "
            "distance_type => 'COSINE');",
        ),
        Line(
            "Snowflake",
            f"-- STAGE is a stage at {place}.\n"
            "CREATE TABLE features AS SELECT $1:uri::TEXT AS uri, $1:label::TEXT AS label, "
            f"$1:embedding::VECTOR(FLOAT, {dimension_of(table)}) AS embedding FROM @STAGE "
            f"(FILE_FORMAT => PARQUET, PATTERN => {_sql(_pattern(named))});\n"
            "SELECT uri, VECTOR_COSINE_SIMILARITY(embedding, (SELECT embedding FROM features WHERE "
            "uri = 'URI')) AS score FROM features ORDER BY score DESC LIMIT 10;",
        ),
        Line("ClickHouse", _clickhouse(place)),
        Line("embedding-atlas", f"embedding-atlas {_words(place, named)} --vector embedding"),
    ]


def _pattern(parts: Sequence[str]) -> str:
    return f".*({'|'.join(part.replace('.', '[.]') for part in parts)})" if parts else ".*part-.*"


def _clickhouse(place: str) -> str:
    call = "deltaLake" if "://" in place else "deltaLakeLocal"
    return (
        f"WITH (SELECT embedding FROM {call}({_sql(place)}) WHERE uri = 'URI') AS q\n"
        f"SELECT uri, cosineDistance(embedding, q) AS distance FROM {call}({_sql(place)}) "
        "ORDER BY distance LIMIT 10;"
    )


def _words(place: str, parts: Sequence[str]) -> str:
    shown = shlex.quote(place)
    return " ".join(f"{shown}/{part}" for part in parts) or f"{shown}/part-*.parquet"


def _sql(text: str) -> str:
    """Return a string in SQL, where a backslash may be special too."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
