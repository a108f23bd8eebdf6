"""Each line that --to open prints reads the table where it lies."""

import json
import shutil
import subprocess
import sys

import duckdb
import polars as pl
import pyarrow as pa
import pytest

import pipeline
from pipeline.cli import main
from pipeline.exporting.lines import open_lines

RUN = ("pyarrow", "pandas", "DuckDB", "Polars", "Hugging Face datasets", "LanceDB")


@pytest.mark.parametrize("folder", ["out", "a folder é'"])
def test_the_lines_of_python_open_the_table(place, folder, monkeypatch):
    monkeypatch.chdir(place.root)
    output = place.root / "copy" / folder
    shutil.copytree(place.night(2), output)
    check(open_lines(output), RUN)


def test_the_lines_of_python_open_a_table_in_a_bucket(place, s3):
    for path in place.night(2).rglob("*"):
        if path.is_file():
            s3.put(f"out/{path.relative_to(place.output)}", path.read_bytes())
    check(open_lines(f"{s3.url}/out"), RUN[:-1])


def check(lines, readers):
    lines = {line.reader: line.code for line in lines}
    for reader in readers:
        *imports, last = lines[reader].split("; ")
        names: dict = {}
        exec("\n".join(imports), names)
        assert rows(eval(last, names)) == 7, reader


def rows(opened):
    if isinstance(opened, pl.DataFrame | pa.Table):
        return len(opened)
    if isinstance(opened, duckdb.DuckDBPyRelation):
        return len(opened.fetchall())
    return opened.count_rows() if hasattr(opened, "count_rows") else len(opened)


def test_clickhouse_finds_the_nearest_rows(place, monkeypatch):
    output = place.root / "a folder é"
    shutil.copytree(place.night(2), output)
    [query] = [line.code for line in open_lines(output) if line.reader == "ClickHouse"]
    uri = min(place.table()["uri"].to_pylist())
    # In a process of its own: ClickHouse brings an allocator and threads.
    program = "import sys, chdb; print(chdb.query(sys.argv[1], 'JSONCompactEachRow'))"
    words = [sys.executable, "-c", program, query.replace("'URI'", f"'{uri}'")]
    # ClickHouse reads only files below its own folder, which is the current one here.
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, cwd=place.root)
    found = [json.loads(line)[0] for line in done.stdout.splitlines() if line]
    exact = pipeline.search(output, uri=uri)["uri"].to_pylist()
    assert found == exact, done.stderr


def test_the_statements_name_the_parts_that_count(place):
    lines = {line.reader: line.code for line in open_lines(place.night(2))}
    removed = {path.name for path in (place.output / "features").glob("part-*")}
    removed -= {line for line in removed if line in lines["BigQuery"]}
    assert removed
    assert not [name for name in removed if name in str(lines)]
    assert "enable_list_inference = TRUE" in lines["BigQuery"]
    assert "FLOAT, 1280" in lines["Snowflake"]


def test_the_command_prints_them(place, capsys):
    assert main(["export", str(place.output), "--to", "open"]) == 0
    printed = capsys.readouterr().out
    for name in (*RUN, "Spark", "BigQuery", "Snowflake", "ClickHouse", "embedding-atlas"):
        assert f"{name}\n" in printed
