"""Batches to load follow the table: each is read back with another library and applied in order."""

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import pipeline
from pipeline.cli import main
from pipeline.exporting import avro, differences
from pipeline.exporting.batches import Batches, encode_lines
from pipeline.exporting.ids import ids_of
from tests.helpers.exports import check_nearest, cosine_search, counts, load_batches, read_avro
from tests.helpers.outputs import live
from tests.helpers.runs import vectors
from transforms.errors import Refused, UserError
from transforms.storage.local import LocalStorage


def read_pinecone(folder):
    for path in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            yield row["id"], row["values"]


def read_milvus(folder):
    for path in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            yield str(row["uri"]), row["embedding"]


READERS = {"vertex": read_avro, "pinecone": read_pinecone, "milvus-files": read_milvus}


def check(place, name="vertex", kind="uri"):
    there = load_batches(place.dest, READERS[name])
    table = place.table()
    keys = ids_of(table["uri"].to_pylist(), kind).to_pylist()
    assert sorted(there) == sorted(keys)
    matrix = np.array([there[key] for key in keys], np.float32)
    np.testing.assert_array_equal(matrix, vectors(table))
    check_nearest(table, cosine_search(table["uri"].to_pylist(), matrix))


@pytest.mark.parametrize(
    ("name", "kind"), [("vertex", "uri"), ("pinecone", "sha256"), ("milvus-files", "uri")]
)
def test_each_night_is_a_batch(place, name, kind):
    assert counts(place.export(name)) == (6, 0, 0)
    check(place, name, kind)
    assert counts(place.export(name)) == (0, 0, 0)
    place.night(2)
    assert counts(place.export(name)) == (2, 1, 1)
    check(place, name, kind)
    assert sorted(path.name for path in place.dest.iterdir()) == [
        "export.json",
        "rows",
        "v000000",
        "v000001",
    ]


def test_a_record_of_vertex_holds_filters(place):
    place.export("vertex", columns=("label", "score", "width", "phash", "modified", "labels"))
    with next(place.dest.glob("v*/*.avro")).open("rb") as file:
        found = fastavro.reader(file)
        assert found.writer_schema["fields"][0]["name"] == "id"
        record = next(iter(found))
    table = place.table().filter([uri == record["id"] for uri in place.table()["uri"].to_pylist()])
    row = table.to_pylist()[0]
    words = {item["namespace"]: item["allow"] for item in record["restricts"]}
    assert words["label"] == [row["label"]]
    assert words["modified"] == [row["modified"].isoformat()]
    numbers = {item.pop("namespace"): item for item in record["numeric_restricts"]}
    assert numbers["score"]["value_float"] == pytest.approx(row["score"])
    assert numbers["width"]["value_int"] == row["width"]
    assert numbers["phash"]["value_double"] == float(row["phash"])


def test_only_new_rows_of_a_part_are_sent(place):
    place.export("vertex")
    place.night(2)
    pipeline.compact(place.output)
    assert counts(place.export("vertex")) == (2, 1, 1)
    assert len(list(read_avro(place.dest / "v000002"))) == 3
    check(place)


def test_moved_rows_are_not_sent_again(place, monkeypatch):
    place.night(2)
    place.export("vertex")
    pipeline.compact(place.output)
    with monkeypatch.context() as patch:
        # No part is read as a whole.
        patch.setattr("pipeline.exporting.rows.read_part", None)
        assert counts(place.export("vertex")) == (0, 0, 0)
    pipeline.rollback(place.output, 0)
    assert counts(place.export("vertex")) == (1, 1, 2)
    check(place)


def test_a_version_that_was_vacuumed_is_compared_in_full(place, caplog):
    place.export("vertex")
    place.night(2)
    kept = live(place.output)
    for path in (place.output / "features").glob("part-*"):
        if path.name not in kept:
            path.unlink()
    with caplog.at_level("INFO"):
        assert counts(place.export("vertex")) == (2, 1, 1)
    assert "version 0 of the table cannot be read any more" in caplog.text
    check(place)


def test_a_log_that_was_cleaned_up_is_compared_in_full(place, caplog):
    place.export("vertex")
    place.night(2)
    table = DeltaTable(place.output / "features")
    table.create_checkpoint()
    (place.output / "features/_delta_log/00000000000000000000.json").unlink()
    with caplog.at_level("INFO"):
        assert counts(place.export("vertex")) == (2, 1, 1)
    assert "cannot be read any more" in caplog.text
    check(place)


@pytest.mark.parametrize("vacuumed", [False, True])
def test_shares_of_a_large_difference_give_the_same(place, monkeypatch, vacuumed):
    place.export("vertex")
    place.night(2)
    if vacuumed:
        kept = live(place.output)
        for path in (place.output / "features").glob("part-*"):
            if path.name not in kept:
                path.unlink()
    monkeypatch.setattr(differences, "AT_ONCE", 2)
    assert counts(place.export("vertex")) == (2, 1, 1)
    check(place)


def test_a_second_export_takes_over(place, monkeypatch):
    real = LocalStorage.write
    others = []

    def write(self, key, data, **options):
        real(self, key, data, **options)
        if key.endswith(".avro") and not others:
            others.append(None)
            place.export("vertex")

    monkeypatch.setattr(LocalStorage, "write", write)
    with pytest.raises(Refused, match="another export"):
        place.export("vertex")
    check(place)


def test_since_trusts_what_a_user_says(place):
    place.night(2)
    assert counts(place.export("vertex", since=0)) == (2, 1, 1)
    assert len(list(place.dest.glob("v*"))) == 1
    with pytest.raises(UserError, match="--since 7: the newest version of the table is 1"):
        place.export("vertex", since=7)


def test_a_folder_that_is_in_use_is_refused(place, capsys):
    place.dest.mkdir()
    (place.dest / "photo.jpg").write_bytes(b"photo")
    arguments = ["export", str(place.output), "--to", "vertex", "--dest", str(place.dest)]
    assert main(arguments) == 2
    assert "holds something that no export has noted" in capsys.readouterr().err
    assert main([*arguments, "--replace"]) == 0
    assert (place.dest / "photo.jpg").exists()
    check(place)


def test_another_kind_of_ids_can_be_chosen_after_a_first_export_that_was_refused(
    place, monkeypatch
):
    def refuse(*_):
        raise UserError("holds a line break, which no id may. Give --id sha256")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.exporting.vertex.encode_lines", refuse)
        with pytest.raises(UserError, match="--id sha256"):
            place.export("vertex")
    assert counts(place.export("vertex", id="sha256")) == (6, 0, 0)
    check(place, kind="sha256")
    with pytest.raises(UserError, match="holds another kind of ids"):
        place.export("vertex")


def test_names_that_a_format_cannot_express_are_refused():
    for name in ("a\nb", "a\u2028b"):
        with pytest.raises(UserError, match="line break"):
            encode_lines(pa.array([name]))


def test_avro_numbers_are_those_of_another_library(tmp_path):
    schema = {"type": "record", "name": "Row", "fields": [{"name": "n", "type": "long"}]}
    numbers = [0, -1, 1, 63, 64, -64, -65, 2**31, -(2**31), 2**63 - 1, -(2**63)]
    body = b"".join(map(avro.number, numbers))
    (tmp_path / "a.avro").write_bytes(avro.avro_file(schema, [(len(numbers), body)]))
    with (tmp_path / "a.avro").open("rb") as file:
        assert [row["n"] for row in fastavro.reader(file)] == numbers


def test_ids_are_stable():
    uris = ["/photos/a.jpg", "s3://bucket/ü.jpg"]
    assert ids_of(uris, "uri").to_pylist() == uris
    assert ids_of(uris, "uuid5").to_pylist()[0] == "63b21463-6ac9-595d-b639-f34fa884af6c"
    for key, digest in zip(
        ids_of(uris, "int64").to_pylist(), ids_of(uris, "sha256").to_pylist(), strict=True
    ):
        assert key == int(digest[:16], 16) >> 1


def stop(*_):
    raise KeyboardInterrupt


def test_a_call_that_begins_just_before_another_one_ends_loses_no_row(place, monkeypatch):
    place.export("vertex")
    place.night(2)
    real = Batches.finish

    def late(self, state):
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "send", stop)
            with pytest.raises(KeyboardInterrupt):
                place.export("vertex")
        real(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "finish", late)
        with pytest.raises(Refused, match="another export"):
            place.export("vertex")
    assert counts(place.export("vertex")) == (2, 1, 1)


def test_a_call_that_ends_while_another_one_begins_loses_no_row(place, monkeypatch):
    place.export("vertex")
    place.night(2)
    real = Batches._delete

    def late(self, after, but=None):
        monkeypatch.setattr(Batches, "_delete", real)
        place.export("vertex")
        monkeypatch.setattr(Batches, "send", stop)
        real(self, after, but)

    monkeypatch.setattr(Batches, "_delete", late)
    with pytest.raises(KeyboardInterrupt):
        place.export("vertex")
    monkeypatch.undo()
    assert counts(place.export("vertex")) == (2, 1, 1)
