"""Folders of matrices and of Parquet files follow the table, night after night."""

import json
import shutil

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.cli import main
from pipeline.exporting.base import Batch
from pipeline.exporting.parquet import ParquetFiles
from tests.helpers.exports import check_nearest, cosine_search, counts
from tests.helpers.runs import vectors
from transforms.errors import Damaged, Refused, UserError
from transforms.storage.local import LocalStorage


def read_npy(dest):
    """Read the pairs of files as clip-retrieval does: sorted by name."""
    matrices = [np.load(path) for path in sorted((dest / "img_emb").iterdir())]
    tables = [pq.read_table(path) for path in sorted((dest / "metadata").iterdir())]
    assert [len(matrix) for matrix in matrices] == [table.num_rows for table in tables]
    return pa.concat_tables(tables), np.concatenate(matrices)


def read_parquet(dest):
    table = ds.dataset(dest / "data", partitioning="hive").to_table()
    return table, np.array(table["embedding"].to_pylist(), np.float32)


READERS = {"npy": read_npy, "parquet": read_parquet}


def check(place, name):
    rows, matrix = READERS[name](place.dest)
    order = np.argsort(rows["uri"].to_pylist())
    table = place.table()
    assert rows["uri"].take(order).to_pylist() == table["uri"].to_pylist()
    assert rows["label"].take(order).to_pylist() == table["label"].to_pylist()
    np.testing.assert_array_equal(matrix[order], vectors(table))
    check_nearest(table, cosine_search(rows["uri"].to_pylist(), matrix))


@pytest.mark.parametrize("name", READERS)
def test_each_night_sends_what_changed(place, name):
    assert counts(place.export(name)) == (6, 0, 0)
    check(place, name)
    assert counts(place.export(name)) == (0, 0, 0)
    place.night(2)
    result = place.export(name)
    assert counts(result) == (2, 1, 1)
    assert (result.since, result.version, result.rows) == (0, 1, 7)
    check(place, name)
    place.night(1)
    assert counts(place.export(name)) == (1, 1, 2)
    check(place, name)


def test_a_compaction_changes_no_row(place):
    place.night(2)
    place.export("npy")
    pipeline.compact(place.output)
    assert counts(place.export("npy")) == (0, 0, 0)
    assert len(list((place.dest / "img_emb").iterdir())) == 1
    check(place, "npy")


def test_a_rollback_and_a_vacuum_are_followed(place):
    place.night(2)
    place.export("npy")
    pipeline.rollback(place.output, 0)
    assert counts(place.export("npy")) == (1, 1, 2)
    check(place, "npy")


def test_a_stopped_export_goes_on(place, monkeypatch):
    from pipeline.exporting import mirror

    place.export("npy")
    place.night(2)
    real = mirror.Folder.write
    written = []

    def stop(self, batch, stem, names):
        if written:
            raise KeyboardInterrupt
        real(self, batch, stem, names)
        written.append(stem)

    monkeypatch.setattr(mirror.Folder, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        place.export("npy")
    monkeypatch.setattr(
        mirror.Folder, "write", lambda *them: written.append(them[2]) or real(*them)
    )
    assert counts(place.export("npy")) == (2, 1, 1)
    assert len(written) == len(set(written))
    check(place, "npy")


def test_damaged_and_missing_files_are_written_again(place, caplog):
    place.export("npy")
    first, second = sorted((place.dest / "img_emb").iterdir())
    first.write_bytes(first.read_bytes()[:-4])
    second.unlink()
    (place.dest / "img_emb/mine.npy").write_bytes(b"mine")
    assert counts(place.export("npy")) == (0, 0, 0)
    assert (place.dest / "img_emb/mine.npy").read_bytes() == b"mine"
    (place.dest / "img_emb/mine.npy").unlink()
    check(place, "npy")
    shutil.rmtree(place.dest / "rows")
    place.night(2)
    place.export("npy")
    check(place, "npy")


def test_a_second_export_takes_over(place, monkeypatch):
    from pipeline.exporting import mirror

    real = mirror.Folder.write
    others = []

    def write(self, batch, stem, names):
        real(self, batch, stem, names)
        if not others:
            others.append(None)
            place.export("npy")

    monkeypatch.setattr(mirror.Folder, "write", write)
    with pytest.raises(Refused, match="another export"):
        place.export("npy")
    check(place, "npy")


def test_another_shape_or_table_is_refused_and_replaced(place):
    place.export("npy")
    for options in (
        {"to": "npy,numbers=float16"},
        {"to": "npy", "id": "sha256"},
        {"to": "npy", "columns": ("uri=image_path",)},
        {"to": "parquet"},
    ):
        with pytest.raises(UserError, match=r"holds another .*--replace"):
            place.export(**options)
    place.export(
        "npy,numbers=float16", columns=("uri=image_path", "width"), id="sha256", replace=True
    )
    rows, matrix = read_npy(place.dest)
    assert matrix.dtype == np.float16
    assert rows.column_names == ["id", "image_path", "run_id", "width"]
    assert len(rows["id"][0].as_py()) == 64
    state = json.loads((place.dest / "export.json").read_text())
    state["recipe"] = "0" * 64
    (place.dest / "export.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="another recipe"):
        place.export("npy,numbers=float16", columns=("uri=image_path", "width"), id="sha256")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 2}', b"\xff", b"[" * 200_000],
    ids=range(7),
)
def test_a_damaged_state_is_one_clear_line(place, data, capsys):
    place.export("npy")
    (place.dest / "export.json").write_bytes(data)
    assert main(["export", str(place.output), "--to", "npy", "--dest", str(place.dest)]) == 2
    assert "--replace" in capsys.readouterr().err
    place.export("npy", replace=True)
    check(place, "npy")


@pytest.mark.parametrize("version", [True, -1, 2**31, 2**63, 10**30, 0.5, "0"])
def test_a_version_that_no_table_has_is_one_clear_line(place, version):
    for to in ("npy", "vertex"):
        dest = place.dest / to
        place.export(to, dest)
        state = json.loads((dest / "export.json").read_text())
        (dest / "export.json").write_text(json.dumps({**state, "version": version}))
        with pytest.raises(UserError, match=r"is not what an export .*--replace"):
            place.export(to, dest)


def test_other_peoples_files_are_neither_read_nor_deleted(place):
    (place.dest / "img_emb").mkdir(parents=True)
    (place.dest / "img_emb/theirs.npy").write_bytes(b"theirs")
    with pytest.raises(UserError, match="was not written by an export"):
        place.export("npy")
    place.export("npy", replace=True)
    assert (place.dest / "img_emb/theirs.npy").read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["", "features", "errors", "models/x", "index", "features-x"])
def test_the_output_itself_is_no_destination(place, name):
    link = place.root / "link"
    link.symlink_to(place.output)
    for to, dest in (
        ("npy", place.output / name),
        ("npy", f"file://{place.output}/{name}"),
        ("npy", link / name),
        ("qdrant", f"{place.output / name}#photos"),
        ("milvus", f"{link / name}#photos"),
    ):
        with pytest.raises(UserError, match=r"lies in .*, the folder of the tables themselves"):
            place.export(to, dest)
    place.export("npy", f"{place.output}#x")


def test_a_damaged_part_ends_the_export(place):
    part = next((place.output / "features").glob("part-*"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(Damaged):
        place.export("npy")


def test_shapes_of_parquet(place):
    place.export("parquet,numbers=float64,vector=fixed", columns=("all", "embedding=vector"))
    table = ds.dataset(place.dest / "data").to_table()
    assert table.schema.field("vector").type == pa.list_(pa.float64(), 1280)
    assert set(place.table().column_names) - set(table.column_names) == {"embedding"}
    assert table["labels"].to_pylist() == place.table()["labels"].to_pylist()
    place.export("parquet", columns=("all",), replace=True)
    files = f"{place.dest}/data/*.parquet"
    rows = duckdb.sql(f"SELECT typeof(embedding), count(*) FROM '{files}' GROUP BY ALL").fetchall()
    assert rows == [("FLOAT[]", 6)]


def test_partitions_are_folders_that_readers_understand(place):
    place.export("parquet,partition=label", columns=("label", "width"))
    place.night(2)
    place.export("parquet,partition=label", columns=("label", "width"))
    check(place, "parquet")
    files = f"{place.dest}/data/**/*.parquet"
    found = duckdb.sql(f"SELECT uri, label FROM '{files}' ORDER BY uri").fetchall()
    assert found == list(
        zip(*place.table().select(["uri", "label"]).to_pydict().values(), strict=True)
    )


def test_hostile_values_name_folders_inside_the_destination(tmp_path):
    values = ["../../b", "a/b", "..", "é=%2F", "a b", "'; --", "\n", "", None]
    rows = pa.table({"uri": [str(row) for row in range(len(values))], "label": values})
    target = ParquetFiles("embedding", "float32", False, "label")
    stem = f"part-1-{'0' * 12}"
    keys = []
    for key, data in target.encode(Batch(rows, np.zeros((len(values), 2), np.float32)), stem):
        LocalStorage(str(tmp_path)).write(key, data)
        keys.append(key)
    assert all(target.stem_of(key) == stem and key.count("/") == 2 for key in keys)
    found = ds.dataset(tmp_path / "data", partitioning="hive").to_table().sort_by("uri")
    assert found["label"].to_pylist() == values
    with pytest.raises(UserError, match="cannot be the name"):
        list(
            target.encode(
                Batch(
                    rows.slice(0, 1).set_column(1, "label", [["é" * 99]]),
                    np.zeros((1, 2), np.float32),
                ),
                stem,
            )
        )


def test_a_bucket_is_source_and_destination(place, s3):
    for path in sorted(place.output.rglob("*")):
        if path.is_file():
            s3.put(f"out/{path.relative_to(place.output)}", path.read_bytes())
    config = pipeline.ExportConfig("npy", f"{s3.url}/dest")
    assert counts(pipeline.export(f"{s3.url}/out", config)) == (6, 0, 0)
    assert counts(pipeline.export(f"{s3.url}/out", config)) == (0, 0, 0)
    for name in ("", "/x"):
        config = pipeline.ExportConfig("npy", f"{s3.url}/out{name}")
        with pytest.raises(UserError, match="the folder of the tables themselves"):
            pipeline.export(f"{s3.url}/out", config)
    for key in s3.under("dest/"):
        file = place.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(s3.get(key))
    check(place, "npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "nowhere"], "must be open or one of npy"),
        (["--to", "npy,size=1"], "no option of npy"),
        (["--to", "npy,numbers=int4"], "float32 or float16"),
        (["--to", "npy", "--columns", "nope"], "no column 'nope'; it has: uri"),
        (["--to", "npy", "--columns", "label=uri"], "two exported columns have the name 'uri'"),
        (["--to", "npy", "--columns", "label=URI"], "name 'URI', 'uri' in other letters"),
        (["--to", "npy", "--columns", "label=a,label=b"], "'label' two names, 'a' and 'b'"),
        (["--to", "npy", "--id", "int64", "--columns", "label=id"], "two exported columns"),
        (["--to", "parquet,partition=labels", "--columns", "labels"], "must be one of"),
        (["--to", "npy", "--since", "0"], "--since is for"),
        (["--to", "npy", "--dest", "s3://a:b@c/d"], "holds a password"),
    ],
)
def test_mistakes_are_one_clear_line(place, options, message, capsys):
    dest = [] if "--dest" in options else ["--dest", str(place.dest)]
    assert main(["export", str(place.output), *options, *dest]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_summary_says_what_was_done(place, capsys):
    assert main(["export", str(place.output), "--to", "npy", "--dest", str(place.dest)]) == 0
    out = capsys.readouterr().out
    assert "sent 6 rows to" in out
    assert "(added 6, changed 0), removed 0; it holds version 0 of" in out
