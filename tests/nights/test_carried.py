"""Whole nights with carried columns: where they come from, and what a change of them costs."""

import json
import os

import duckdb
import polars
import pytest
import tensorflow as tf
import webdataset
from deltalake import DeltaTable

import pipeline
from pipeline.tables.table import Table
from tests.helpers.runs import make_folder
from tests.transforms.containers.test_tfrecord import example
from transforms.errors import UserError


@pytest.fixture
def folder(tmp_path, photos):
    return make_folder(tmp_path / "in", photos, "chelsea coffee rocket")


def manifest(folder, **columns):
    """Write a manifest of the photos with the given columns, and return its input."""
    names = sorted(path.name for path in folder.glob("*.jpg"))
    rows = [
        {"file_name": name, **{key: values[place] for key, values in columns.items()}}
        for place, name in enumerate(names)
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return f"manifest:{folder}/metadata.jsonl"


def sources(output):
    table = DeltaTable(str(output / "features")).to_pyarrow_table().sort_by("uri")
    return table["source"].to_pylist()


def test_a_change_of_a_value_updates_its_row_without_reading_the_image(folder, run, tmp_path):
    first = run(manifest(folder, caption=["a", "b", "c"], n=[1, 2, 3]), carry=("caption",))
    assert (first.new, first.updated, first.embedded) == (3, 0, 3)
    before = DeltaTable(str(tmp_path / "out/features")).to_pyarrow_table().sort_by("uri")
    assert sources(tmp_path / "out") == [{"caption": "a"}, {"caption": "b"}, {"caption": "c"}]

    image = folder / "coffee.jpg"
    status = image.stat()
    image.write_bytes(b"x" * status.st_size)
    # As the listing sees it, this is the image of before: whoever reads it would fail.
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = run(manifest(folder, caption=["a", "B", "c"], n=[1, 2, 3]), carry=("caption",))
    assert (second.updated, second.unchanged, second.reused, second.failed) == (1, 2, 1, 0)
    assert second.balanced
    assert "updated 1" in str(second)
    after = DeltaTable(str(tmp_path / "out/features")).to_pyarrow_table().sort_by("uri")
    assert sources(tmp_path / "out")[1] == {"caption": "B"}
    assert after["embedding"].equals(before["embedding"])


def test_a_run_killed_before_its_column_is_added_loses_no_value(folder, run, tmp_path, monkeypatch):
    run(manifest(folder))
    carried = manifest(folder, n=[1, 2, 3])

    real = Table._add_columns

    def killed(self, *arguments):
        if self.name == "features":
            raise OSError("killed")
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "_add_columns", killed)
        with pytest.raises(OSError, match="killed"):
            run(carried, carry=("n",))
    # The rows are published, and readers do not see the column yet.
    assert "source" not in DeltaTable(str(tmp_path / "out/features")).schema().to_arrow().names
    assert pipeline.verify(str(tmp_path / "out")).clean
    # It finishes the run that was killed.
    again = run(carried, carry=("n",))
    assert (again.updated, again.reused, again.balanced) == (3, 3, True)
    changed = run(manifest(folder, n=[1, 2, 4]), carry=("n",))
    assert (changed.updated, changed.unchanged) == (1, 2)
    assert sources(tmp_path / "out") == [{"n": 1}, {"n": 2}, {"n": 4}]
    assert pipeline.verify(str(tmp_path / "out"), sample=3).clean


def test_a_column_that_appears_later_extends_the_table(folder, run, tmp_path):
    run(manifest(folder))
    run(manifest(folder, n=[1, 2, 3]), carry=("n",))
    run(manifest(folder, n=[1, 2, 3], score=[0.5, 1, None]), carry=("all",))
    assert sources(tmp_path / "out") == [
        {"n": 1, "score": 0.5},
        {"n": 2, "score": 1.0},
        {"n": 3, "score": None},
    ]
    # Of the last row nothing changed, so it lies in a part that has no such column.
    files = DeltaTable(str(tmp_path / "out/features")).file_uris()
    rows = duckdb.read_parquet(files, union_by_name=True).select("source.n").fetchall()
    assert sorted(rows) == [(1,), (2,), (3,)]
    scanned = polars.scan_delta(str(tmp_path / "out/features")).select("source").collect()
    assert scanned["source"].struct.field("n").sort().to_list() == [1, 2, 3]
    assert pipeline.verify(str(tmp_path / "out"), sample=3).clean
    pipeline.compact(str(tmp_path / "out"))
    assert [row["n"] for row in sources(tmp_path / "out")] == [1, 2, 3]
    assert pipeline.verify(str(tmp_path / "out"), sample=3).clean

    # A night that carries nothing leaves the values.
    assert run(manifest(folder, n=[7, 8, 9])).updated == 0
    assert [row["n"] for row in sources(tmp_path / "out")] == [1, 2, 3]


def test_a_type_that_changed_is_refused_by_name(folder, run, tmp_path):
    run(manifest(folder, n=[1, 2, 3]), carry=("n",))
    with pytest.raises(UserError, match="'n' holds int64 in the table and string now"):
        run(manifest(folder, n=["1", "2", "3"]), carry=("n",))
    assert [row["n"] for row in sources(tmp_path / "out")] == [1, 2, 3]
    run(manifest(folder, n=["1", "2", "3"]), carry=("n",), rebuild=True)
    assert [row["n"] for row in sources(tmp_path / "out")] == ["1", "2", "3"]


def test_equal_images_keep_their_own_values(folder, run, tmp_path):
    (folder / "a.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    done = run(manifest(folder, n=[0, 1, 2, 3]), carry=("n",))
    assert (done.embedded, done.reused) == (3, 1)
    assert [row["n"] for row in sources(tmp_path / "out")] == [0, 1, 2, 3]


def test_the_files_beside_an_image_in_a_tar(folder, run, tmp_path, caplog):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as tar:
        for number, path in enumerate(sorted(folder.glob("*.jpg"))):
            note = {"width": number, "tags": ["x", "y"], "more": {"z": 1.5}}
            sample = {"__key__": f"d/{path.stem}", "jpg": path.read_bytes(), "json": note}
            tar.write({**sample, "txt": f"photo {number}", "cls": number})
    done = run(tmp_path / "a.tar", carry=("cls", "clss"))
    assert "--carry: no image has a value of clss" in caplog.text
    assert sources(tmp_path / "out")[2] == {"cls": 2}
    done = run(tmp_path / "a.tar", carry=("all",))
    assert (done.listed, done.ignored) == (3, 9)
    assert sources(tmp_path / "out")[2] == {
        "cls": 2,
        "more": {"z": 1.5},
        "tags": ["x", "y"],
        "txt": "photo 2",
        "width": 2,
    }


def test_the_other_features_of_a_record(folder, run, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for number, path in enumerate(sorted(folder.glob("*.jpg"))):
            features = tf.train.Example.FromString(example(image__encoded=path.read_bytes()))
            features.features.feature["label"].int64_list.value.append(number - 1)
            features.features.feature["box"].float_list.value.extend([0.5, 1.5])
            features.features.feature["text"].bytes_list.value.append("grün".encode())
            writer.write(features.SerializeToString())
    run(tmp_path / "a.tfrecord", carry=("label", "box", "text"))
    assert sources(tmp_path / "out")[0] == {"box": [0.5, 1.5], "label": -1, "text": "grün"}


def test_a_manifest_that_is_not_utf8_is_refused(folder):
    (folder / "m.csv").write_bytes("file_name,caption\ncoffee.jpg,gr\xfcn\n".encode("latin-1"))
    config = pipeline.Config(
        inputs=(f"manifest:{folder}/m.csv",), output=str(folder / "out"), carry=("all",)
    )
    with pytest.raises(UserError, match="is not UTF-8 at byte 31"):
        pipeline.extract(config)
