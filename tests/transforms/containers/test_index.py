"""The index of a container's version spares reading it again, and never says anything wrong."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.containers import PHOTOS, make_tar, members_of
from transforms import parquet
from transforms.containers import index
from transforms.containers.base import Wanted
from transforms.containers.bytes import open_container
from transforms.containers.index import Indexes
from transforms.containers.kinds import Kind
from transforms.file_names import Ignored
from transforms.records import LISTING_SCHEMA
from transforms.storage import open_storage
from transforms.storage.local import local_etag


@pytest.fixture
def output(tmp_path):
    return open_storage(str(tmp_path / "out"))


@pytest.fixture
def tar(tmp_path):
    return make_tar(tmp_path / "a.tar", {**PHOTOS, "x.txt": b"x", ".h.jpg": b"h"})


def keys(output):
    return [found.key for found in output.list("")]


def walks(monkeypatch):
    """Return a list that grows with each walk."""
    calls = []
    find = Kind.find
    monkeypatch.setattr(Kind, "find", lambda *args: calls.append(1) or find(*args))
    return calls


def test_an_unchanged_container_is_walked_once(tar, output, monkeypatch):
    calls, first, second = walks(monkeypatch), Ignored(), Ignored()
    found = members_of(tar, ignored=first, indexes=Indexes(output))
    assert members_of(tar, ignored=second, indexes=Indexes(output)) == found
    assert len(calls) == 1
    assert first == second == Ignored(other=1, hidden=1)


def test_a_new_version_replaces_the_index(tar, output, monkeypatch):
    calls = walks(monkeypatch)
    members_of(tar, indexes=Indexes(output))
    before = keys(output)
    make_tar(tar, {"new.jpg": b"new"})
    assert [found.uri for found in members_of(tar, indexes=Indexes(output))] == [f"{tar}::new.jpg"]
    assert len(calls) == 2
    assert keys(output) == before


def test_each_choice_of_a_column_has_its_own_index(tmp_path, output):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"one": [b"1"], "two": [b"2"]}), path)
    one, two = (members_of(path, column=name, indexes=Indexes(output)) for name in ("one", "two"))
    assert len(keys(output)) == 2
    assert (one[0].member.column, two[0].member.column) == ("one", "two")
    assert one[0].etag != two[0].etag


def test_a_dry_run_reads_indexes_and_writes_none(tar, output, monkeypatch):
    calls = walks(monkeypatch)
    members_of(tar, indexes=Indexes(output, write=False))
    assert keys(output) == []
    members_of(tar, indexes=Indexes(output))
    members_of(tar, indexes=Indexes(output, write=False))
    assert len(calls) == 2


def other_columns(data):
    table = parquet.read(data)
    return parquet.encode(table.drop_columns(["member"]))


def other_version(data):
    table = parquet.read(data)
    key = index._NOTE
    note = json.loads(table.schema.metadata[key])
    metadata = {key: json.dumps({**note, "version": 0}).encode()}
    return parquet.encode(table.slice(0, 0).replace_schema_metadata(metadata))


def other_note(data):
    table = parquet.read(data)
    metadata = {index._NOTE: b'{"ignored": {"unknown": 1}}'}
    return parquet.encode(table.slice(0, 0).replace_schema_metadata(metadata))


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "foreign": lambda data: b"another file",
    "no note": lambda data: parquet.encode(pa.table({"a": [1]})),
    "note of zeros": lambda data: data.replace(index._NOTE, b"0" * len(index._NOTE)),
    "list as note": lambda data: parquet.encode(
        pa.table({"a": [1]}).replace_schema_metadata({index._NOTE: b"[1]"})
    ),
    "other columns": other_columns,
    "other version": other_version,
    "other note": other_note,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_that_cannot_be_used_is_made_again(tar, output, damage):
    found = members_of(tar, indexes=Indexes(output))
    (key,) = keys(output)
    whole = output.read(key)
    output.write(key, DAMAGES[damage](whole))
    assert members_of(tar, indexes=Indexes(output)) == found
    assert output.read(key) == whole


def test_an_index_of_another_container_is_not_taken(tar, tmp_path, output):
    """Someone may have copied it there."""
    members_of(tar, indexes=Indexes(output))
    (key,) = keys(output)
    other = make_tar(tmp_path / "b.tar", {"b.jpg": b"b"})
    members_of(other, indexes=Indexes(output))
    (second,) = set(keys(output)) - {key}
    output.write(second, output.read(key))
    assert [found.uri for found in members_of(other, indexes=Indexes(output))] == [
        f"{other}::b.jpg"
    ]


def test_the_table_has_the_columns_of_a_listing(tar):
    with open_container(str(tar)) as file:
        table = index.list_members(file, Ignored(), Wanted())
    assert table.schema.equals(LISTING_SCHEMA)


def test_a_store_without_etags_gets_no_index(tar, output):
    with open_container(str(tar)) as file:
        file.etag = ""
        found = index.list_members(file, Ignored(), Wanted(), Indexes(output))
        assert found.num_rows == len(PHOTOS)
        assert keys(output) == []
        file.etag = local_etag(tar.stat())


def test_a_column_is_part_of_the_etag_only_where_there_are_columns(tar):
    assert [one.etag for one in members_of(tar, "left")] == [one.etag for one in members_of(tar)]
