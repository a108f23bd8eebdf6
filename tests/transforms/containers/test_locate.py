"""A member is found again by its uri, as tables and people write it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.containers import PHOTOS, make_tar, members_of
from tests.transforms.containers.test_read import make
from transforms.containers.locate import locate
from transforms.read import read_images
from transforms.records import ImageReference


def named(uri, etag="", size=-1):
    return ImageReference(str(uri), etag, size, None)


def outcome(reference):
    (one,) = read_images(locate([reference]))
    return one[1].kind.word if isinstance(one, tuple) else one.data


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "tfrecord", "parquet"])
def test_a_member_by_its_uri(kind, tmp_path):
    path = make(kind, tmp_path / "a")
    for listed, data in zip(members_of(path), PHOTOS.values(), strict=True):
        assert outcome(named(listed.uri)) == data
        assert outcome(named(listed.uri, listed.etag, len(data))) == data
        assert outcome(named(listed.uri, "other", len(data))) == "changed"


@pytest.mark.parametrize("kind", ["tar.gz", "parquet"])
def test_members_of_a_stream_in_any_order(kind, tmp_path):
    listed = members_of(make(kind, tmp_path / "a"))
    order = [2, 0, 3, 1]
    results = list(read_images(locate([named(listed[number].uri) for number in order])))
    assert [one.data for one in results] == [list(PHOTOS.values())[number] for number in order]


def test_what_is_not_there_is_not_found(tmp_path):
    path = make("tar", tmp_path / "a.tar")
    assert outcome(named(f"{path}::lost.jpg")) == "not_found"
    assert outcome(named(f"{tmp_path}/lost.tar::a.jpg")) == "not_found"
    (tmp_path / "text.tar").write_text("no container")
    assert outcome(named(f"{tmp_path}/text.tar::a.jpg")) == "not_found"


def test_colons_in_the_names_of_containers_members_and_files(tmp_path):
    folder = tmp_path / "x::y"
    folder.mkdir()
    (tmp_path / "x").mkdir()
    path = make_tar(folder / "a::b.tar", {"c::d.jpg": b"cd", "::.jpg": b"e"})
    assert outcome(named(f"{path}::c::d.jpg")) == b"cd"
    assert outcome(named(f"{path}::::.jpg")) == b"e"
    (folder / "plain::file.jpg").write_bytes(b"plain")
    assert outcome(named(folder / "plain::file.jpg")) == b"plain"


def test_a_column_that_was_chosen_is_part_of_the_etag(tmp_path):
    pq.write_table(pa.table({"one": [b"1"], "two": [b"2"]}), tmp_path / "a.parquet")
    (listed,) = members_of(tmp_path / "a.parquet", column="two")
    assert outcome(named(listed.uri, listed.etag)) == b"2"
