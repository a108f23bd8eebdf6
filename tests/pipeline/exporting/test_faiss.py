"""An index file of FAISS follows the table, and its ids lead back to the images."""

import hashlib
import json

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.exporting import faiss_file
from pipeline.exporting.faiss_file import FaissFile
from pipeline.exporting.faiss_layout import Layout
from tests.helpers.exports import check_nearest, counts
from transforms.errors import Refused, RunFailed, UserError


def opened(place):
    files = json.loads((place.dest / "export.json").read_text())["files"]
    index = faiss.read_index(str(place.dest / next(iter(files["index"]))))
    return index, pq.read_table(place.dest / next(iter(files["rows"])))


def check(place):
    index, rows = opened(place)
    names = dict(zip(rows["id"].to_pylist(), rows["uri"].to_pylist(), strict=True))

    def search(query):
        _, ids = index.search(query[None] / np.linalg.norm(query), 5)
        return [names[key] for key in ids[0].tolist()]

    check_nearest(place.table(), search)
    assert index.ntotal == rows.num_rows == place.table().num_rows
    assert len(list(place.dest.iterdir())) == 3


@pytest.mark.parametrize("to", ["faiss", "faiss,numbers=float16"])
def test_the_index_follows_the_table(place, to):
    assert counts(place.export(to)) == (6, 0, 0)
    check(place)
    place.night(2)
    assert counts(place.export(to)) == (2, 1, 1)
    check(place)
    pipeline.compact(place.output)
    assert counts(place.export(to)) == (0, 0, 0)
    pipeline.rollback(place.output, 0)
    assert counts(place.export(to)) == (1, 1, 2)
    check(place)


@pytest.mark.parametrize("night", [1, 2])
def test_a_damaged_index_is_not_opened(place, night):
    place.export("faiss")
    place.night(night)
    index = next(place.dest.glob("index-*"))
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(UserError, match="not what was written"):
        place.export("faiss")
    place.export("faiss", replace=True)
    check(place)


@pytest.mark.parametrize("night", [1, 2])
@pytest.mark.parametrize("name", ["index", "rows"])
def test_a_lost_file_is_made_anew(place, night, name, caplog):
    place.export("faiss")
    place.night(night)
    next(place.dest.glob(f"{name}-*")).unlink()
    assert counts(place.export("faiss")) == (5 + night, 0, 0)
    assert "is missing; all rows are sent anew" in caplog.text
    check(place)


def test_two_calls_of_which_one_notes_files_that_the_other_has_replaced(place, monkeypatch):
    place.export("faiss")
    place.night(2)
    real = FaissFile.write_state

    def late(self, state):
        with monkeypatch.context() as patch:
            patch.setattr(FaissFile, "write_state", real)
            place.export("faiss")
        real(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(FaissFile, "write_state", late)
        with pytest.raises(Refused, match="another export"):
            place.export("faiss")
    assert counts(place.export("faiss")) == (7, 0, 0)
    check(place)


@pytest.mark.parametrize("name", ["index", "rows"])
def test_a_byte_that_has_changed_is_found(place, name):
    place.export("faiss")
    place.night(2)
    file = next(place.dest.glob(f"{name}-*"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="not what was written"):
        place.export("faiss")


def test_a_bucket_is_a_destination(place, s3):
    place.export("faiss", f"{s3.url}/index")
    place.night(2)
    assert counts(place.export("faiss", f"{s3.url}/index")) == (2, 1, 1)
    place.dest.mkdir()
    keys = list(s3.under("index/"))
    assert len(keys) == 3
    for key in keys:
        (place.dest / key.rpartition("/")[2]).write_bytes(s3.get(key))
    check(place)


@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap,SQfp16"])
def test_the_files_are_those_of_faiss_itself(kind, tmp_path):
    vectors = np.random.default_rng(3).normal(size=(500, 24)).astype(np.float32)
    ids = np.random.default_rng(4).permutation(500)
    index = faiss.index_factory(24, kind, faiss.METRIC_INNER_PRODUCT)
    index.add_with_ids(vectors, ids)
    layout = Layout.of(24, "float16" if kind.endswith("fp16") else "float32")
    own = layout.head(500) + layout.encode(vectors).tobytes() + layout.tail(500) + ids.tobytes()
    assert faiss.serialize_index(index).tobytes() == own
    path = tmp_path / "x.faiss"
    path.write_bytes(own)
    assert layout.rows_of(path) == 500
    ((codes, read),) = layout.blocks(path)
    np.testing.assert_array_equal(codes, layout.encode(vectors))
    np.testing.assert_array_equal(read, ids)
    for other in (own[:-1], own[:-40], own + bytes(8), b"", Layout.of(25, "float32").head(0)):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="not an index of this kind"):
            layout.rows_of(path)


def test_another_faiss_is_refused(monkeypatch):
    write = faiss.serialize_index
    monkeypatch.setattr(faiss, "serialize_index", lambda index: write(index)[::-1])
    with pytest.raises(RunFailed, match="in a form that is not known here"):
        Layout.of(8, "float32")


def test_what_a_killed_call_left_is_deleted(place):
    left = place.dest / ".tmp-export-x"
    left.mkdir(parents=True)
    (left / "index").write_bytes(b"half")
    place.export("faiss")
    check(place)


def test_a_call_whose_folder_another_call_deleted_says_so(place, monkeypatch):
    complete = faiss_file._Draft.complete

    def late(draft, layout):
        complete(draft, layout)
        # The other call is done before this one stores its files.
        monkeypatch.undo()
        place.export("faiss", replace=True)

    monkeypatch.setattr(faiss_file._Draft, "complete", late)
    with pytest.raises(Refused, match=f"another export to {place.dest} has started"):
        place.export("faiss")
    check(place)


def test_a_state_that_names_other_files_is_refused(place, tmp_path):
    """Names come from the state: neither a path nor another table in our form is opened."""
    place.export("faiss")
    place.night(2)
    file = place.dest / "export.json"
    kept = json.loads(file.read_text())
    table = next(iter(kept["files"]["rows"]))
    (tmp_path / table).write_bytes((place.dest / table).read_bytes())
    other = pq.read_table(place.dest / table).select(["id"])
    pq.write_table(other, tmp_path / "other")
    data = (tmp_path / "other").read_bytes()
    foreign = f"rows-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    (place.dest / foreign).write_bytes(data)
    for name in (f"../{table}", foreign, ""):
        files = {**kept["files"], "rows": {name: 1}}
        file.write_text(json.dumps({**kept, "files": files}))
        with pytest.raises(UserError, match="is not what was written"):
            place.export("faiss")


def test_a_table_that_becomes_empty_and_full_again(place):
    place.export("faiss")
    index, _ = opened(place)
    assert index.ntotal == 6


def test_a_state_with_another_number_of_rows_is_compared_in_full(place):
    place.export("faiss")
    file = place.dest / "export.json"
    file.write_text(file.read_text().replace('"rows": 6', '"rows": 5'))
    assert counts(place.export("faiss")) == (0, 0, 0)
    assert json.loads(file.read_text())["rows"] == 6
    check(place)
