"""A member is read exactly, and only while its container is what it was."""

import os
import random
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tests.helpers.containers import PHOTOS, make_tar, members_of, read_all
from tests.transforms.containers.test_tfrecord import RECORDS, write
from transforms.containers import read as container_read
from transforms.containers.bytes import open_container
from transforms.containers.kinds import kind_of
from transforms.errors import UserError
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.records import ImageReference, Member
from transforms.storage import StorageError


def make(kind: str, path: Path) -> Path:
    """Write the sample photos as a container of any kind."""
    if kind.startswith("tar"):
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2"}.get(kind)
        if mode:
            return make_tar(path, mode=mode)
        make_tar(path)
        path.write_bytes(pa.Codec("zstd").compress(path.read_bytes(), asbytes=True))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in PHOTOS.items():
                archive.writestr(name, data)
    elif kind.startswith("tfrecord"):
        write(path, RECORDS, "GZIP" if kind.endswith("gz") else "")
    else:
        pq.write_table(pa.table({"jpg": list(PHOTOS.values())}), path, row_group_size=3)
    return path


KINDS = ["tar", "tar.gz", "tar.bz2", "tar.zst", "zip", "tfrecord", "tfrecord.gz", "parquet"]


@pytest.fixture(params=["file", "object"])
def place(request, tmp_path):
    """A function that puts a container at a local path or into a bucket, and returns its uri."""
    if request.param == "file":
        return lambda data: (tmp_path / "c").write_bytes(data) and str(tmp_path / "c")
    s3 = request.getfixturevalue("s3")
    return lambda data: s3.put("c", data) or f"{s3.url}/c"


@pytest.fixture
def container(tmp_path):
    """A function that returns the bytes of a container with the sample photos."""
    return lambda kind: make(kind, tmp_path / "made").read_bytes()


def words(results):
    return [one[1].kind.word if isinstance(one, tuple) else one.data for one in results]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_exactly(kind, place, container):
    assert list(read_all(place(container(kind))).values()) == list(PHOTOS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_was_replaced_fails_as_changed(kind, place, container):
    data = container(kind)
    references = members_of(place(data))
    place(data + bytes(512))
    assert words(read_images(references)) == ["changed"] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_is_gone(kind, tmp_path):
    path = make(kind, tmp_path / "c")
    references = members_of(path)
    path.unlink()
    assert words(read_images(references)) == ["not_found"] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_fails_large_members_alone(kind, place, container):
    sizes = [len(data) for data in PHOTOS.values()]
    policy = ReadPolicy(max_bytes=sorted(sizes)[1])
    found = list(read_all(place(container(kind)), policy=policy).values())
    assert [word == "too_large" for word in found] == [size > policy.max_bytes for size in sizes]


@pytest.mark.parametrize("kind", KINDS)
def test_some_members_alone_and_in_any_number(kind, place, container):
    references = members_of(place(container(kind)))
    for chosen in ([3], [1, 2], [0, 3]):
        some = [references[number] for number in chosen]
        assert words(read_images(some)) == [list(PHOTOS.values())[number] for number in chosen]


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_with_a_problem_is_not_read(kind, place, container):
    first, second, *_ = members_of(place(container(kind)))
    marked = replace(first, member=replace(first.member, problem="changed: it did"))
    assert words(read_images([marked, second])) == ["changed", list(PHOTOS.values())[1]]
    assert words(read_images([marked])) == ["changed"]


def test_members_and_whole_files_are_read_together(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"whole")
    whole = ImageReference(str(tmp_path / "b.jpg"), "", -1, None)
    references = [*members_of(make("tar", tmp_path / "a")), whole]
    references += [*members_of(make("tar.gz", tmp_path / "c")), whole]
    references += members_of(make("parquet", tmp_path / "d"))
    photos = list(PHOTOS.values())
    assert words(read_images(references)) == [*photos, b"whole", *photos, b"whole", *photos]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_near_members_take_one_request(kind, place, container, monkeypatch):
    calls = []
    read = container_read._read_range
    monkeypatch.setattr(container_read, "_read_range", lambda *a: calls.append(a) or read(*a))
    read_all(place(container(kind)))
    assert len(calls) == 1


def test_a_range_past_the_end_fails_alone(place, container):
    references = members_of(place(container("tar")))
    far = replace(references[3], member=replace(references[3].member, offset=1 << 40))
    assert words(read_images([*references[:3], far])) == [*list(PHOTOS.values())[:3], "truncated"]


def test_an_empty_member(place, tmp_path):
    data = make_tar(tmp_path / "a", {"a.jpg": b"", "b.jpg": b"b"}).read_bytes()
    assert read_all(place(data)) == {"a.jpg": b"", "b.jpg": b"b"}


def test_a_container_that_is_written_to_meanwhile_fails_as_changed(tmp_path, monkeypatch):
    references = members_of(make("tar", tmp_path / "a"))
    read = os.pread

    def disturbed(*where):
        with (tmp_path / "a").open("ab") as file:
            file.write(b"more")
        return read(*where)

    monkeypatch.setattr(os, "pread", disturbed)
    assert words(read_images(references)) == ["changed"] * 4


@pytest.mark.parametrize("kind", ["tar.gz", "parquet"])
def test_no_image_of_a_stream_that_is_written_to_counts(kind, tmp_path, monkeypatch):
    """Its first images are used before the stream ends."""
    references = members_of(make(kind, tmp_path / "a"))
    read = os.pread

    def disturbed(*where):
        data = read(*where)
        os.utime(tmp_path / "a", ns=(1, 1))
        return data

    monkeypatch.setattr(os, "pread", disturbed)
    assert words(read_images(references)) == ["changed"] * 4


def test_a_range_is_asked_for_again(misbehaving, monkeypatch):
    monkeypatch.setattr("transforms.storage.settings._RETRY", {"max_retries": 2})
    monkeypatch.setattr("transforms.storage.retries._WAITS", (0.01,))
    urls = [f"s3://bucket/{name}" for name in ("fine", "503x1", "cutx1", "500x9")]
    members = [
        ImageReference(f"{url}::m", "e", 3000, None, Member(url, "abc", "range", 500, 3000))
        for url in urls
    ]
    results = list(read_images(members))
    assert words(results) == [misbehaving.body[500:3500]] * 3 + ["io_error"]


# What a small container holds; each byte of it may be wrong.
MUTATED = ["tar", "zip", "tfrecord", "parquet", "tar.gz", "tar.zst"]


def is_container(path):
    with open_container(str(path)) as file:
        return kind_of(file) is not None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", MUTATED)
def test_a_wrong_byte_anywhere_costs_rows_and_nothing_else(kind, tmp_path):
    """Zip and TFRecord have checksums of each member, gzip one of all, and the others none."""
    data = make(kind, tmp_path / "a").read_bytes()
    checked = kind in ("zip", "tfrecord")
    choose = random.Random(kind)
    path = tmp_path / "mutated"
    whole = 0
    for _ in range(200):
        mutated = bytearray(data)
        place = choose.randrange(len(data))
        mutated[place] ^= choose.randrange(1, 256)
        path.write_bytes(mutated)
        try:
            found = read_all(path) if is_container(path) else {}
        except (UserError, StorageError):
            continue
        read = [value for value in found.values() if isinstance(value, bytes)]
        wrong = [value for value in read if value not in PHOTOS.values()]
        whole += len(read) - len(wrong)
        assert not wrong or not checked, place
        assert not wrong or kind != "tar.gz" or found[""] == "corrupt", place
    assert whole > 200


def test_the_readers_of_the_formats_own_libraries_agree(tmp_path):
    """What other programs read from the samples is what they were made of."""
    with tarfile.open(make("tar", tmp_path / "a")) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == PHOTOS
    records = tf.data.TFRecordDataset(str(make("tfrecord", tmp_path / "b")))
    assert [record.numpy() for record in records] == RECORDS
    assert isinstance(next(iter(read_images(members_of(tmp_path / "b")))), EncodedImage)
