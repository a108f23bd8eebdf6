"""Every common reader opens the output, with the vector as a fixed-size list where it can be."""

import shutil

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.reports.readers import how_to_read
from tests.helpers.runs import make_folder, vectors
from transforms.errors import UserError


@pytest.fixture(scope="module")
def output(tmp_path_factory, photos):
    from pipeline import Config, extract

    base = tmp_path_factory.mktemp("readers")
    folder = make_folder(base / "images", photos)
    extract(Config(inputs=(str(folder),), output=str(base / "out"), shard_size=3))
    return base / "out"


@pytest.fixture(scope="module")
def files(output):
    return DeltaTable(output / "features").file_uris()


@pytest.fixture(scope="module")
def expected(files):
    table = pa.concat_tables([pq.read_table(file) for file in files]).sort_by("uri")
    return vectors(table)


def test_pyarrow_reads_a_fixed_size_list(files, expected):
    table = ds.dataset(files).to_table().sort_by("uri")
    assert table.schema.field("embedding").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), 1280
    )
    assert (vectors(table) == expected).all()


def test_pandas(output, files, expected):
    frame = DeltaTable(output / "features").to_pandas().sort_values("uri")
    assert (np.stack(frame["embedding"]) == expected).all()
    frame = pd.concat([pd.read_parquet(file) for file in files]).sort_values("uri")
    assert (np.stack(frame["embedding"]) == expected).all()


def test_polars_reads_an_array(files, expected):
    frame = pl.read_parquet(files).sort("uri")
    assert frame["embedding"].dtype == pl.Array(pl.Float32, 1280)
    assert (frame["embedding"].to_numpy() == expected).all()


def test_duckdb(files, expected):
    rows = (
        duckdb.read_parquet(files)
        .order("uri")
        .select("uri, label, embedding::FLOAT[1280] AS embedding")
        .fetchall()
    )
    assert len(rows) == 6
    assert (np.array([row[2] for row in rows], np.float32) == expected).all()


def test_datasets(files, expected, tmp_path):
    import datasets

    loaded = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path)
    ).sort("uri")
    assert loaded.features["embedding"].length == 1280
    assert (np.array(loaded["embedding"], np.float32) == expected).all()


def test_deltalake(output, expected):
    table = DeltaTable(output / "features").to_pyarrow_table().sort_by("uri")
    assert (np.array(table["embedding"].to_pylist(), np.float32) == expected).all()


def test_the_statistics_in_the_log_are_those_of_the_files(output, files):
    table = DeltaTable(output / "features")
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        part = pq.read_table(output / "features" / action["path"])
        uris = part["uri"].to_pylist()
        assert action["num_records"] == part.num_rows
        assert (action["min.uri"], action["max.uri"]) == (min(uris), max(uris))
        assert action["size_bytes"] == (output / "features" / action["path"]).stat().st_size
    filtered = table.to_pyarrow_dataset().to_table(filter=ds.field("uri") == uris[0])
    assert filtered.num_rows == 1


def test_a_filter_on_any_column_finds_its_rows_in_the_table(output, tmp_path, run, photos):
    """This includes columns without bounds in Delta's log, where deltalake would find nothing."""
    rows = DeltaTable(output / "features").to_pyarrow_table()
    for column in (
        "uri",
        "etag",
        "size",
        "content_sha256",
        "format",
        "width",
        "label",
        "score",
        "run_id",
        "modified",
    ):
        value = rows[column][0]
        wanted = sum(other == value for other in rows[column])
        found = (
            DeltaTable(output / "features")
            .to_pyarrow_dataset()
            .to_table(filter=ds.field(column) == value)
        )
        assert found.num_rows == wanted, column
    run(make_folder(tmp_path / "images", photos, "coffee"))
    run(tmp_path / "images", rebuild=True)
    coffee = (
        DeltaTable(tmp_path / "out/features")
        .to_pyarrow_dataset()
        .to_table(filter=ds.field("label") == "espresso")
    )
    assert coffee.num_rows == 1


@pytest.mark.parametrize("name", ["out", "a folder é#"])
def test_the_lines_that_show_prints_read_the_table_where_it_lies(output, tmp_path, name):
    place = shutil.copytree(output, tmp_path / name) / "features"
    for line in how_to_read(str(place), {}):
        code = line.split(maxsplit=1)[1]
        *imports, last = code.split("; ")
        names: dict = {}
        exec("\n".join(imports), names)
        assert len(eval(last, names)) == 6, line


def test_an_output_that_delta_cannot_address_is_refused_before_any_work(run, tmp_path, photos):
    folder = make_folder(tmp_path / "images", photos, "coffee")
    with pytest.raises(UserError, match=r"Delta cannot address an output with '%20' in its name"):
        run(folder, tmp_path / "a%20b/out")
    assert not (tmp_path / "a%20b").exists()
