"""Readers: a member of a container is read exactly, and only while the container is what it was."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transforms.decode.image import DecodePolicy, decode
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.records import ImageReference
from transforms.storage.bucket import Bucket
from transforms.storage.local import local_etag

BEFORE, AFTER = os.urandom(5000), os.urandom(7000)


@pytest.fixture(scope="module")
def photo():
    encoded = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


@pytest.fixture(params=["file", "object"])
def container(request, tmp_path, photo):
    """A place whose bytes can be replaced, with the etag that it has now."""
    data = BEFORE + photo + AFTER
    if request.param == "file":
        path = tmp_path / "photos.tar"
        path.write_bytes(data)
        return str(path), local_etag(path.stat()), path.write_bytes
    s3 = request.getfixturevalue("s3")
    s3.put("photos.tar", data)
    etag = Bucket("s3", s3.bucket).head("photos.tar").etag
    return f"{s3.url}/photos.tar", etag, lambda data: s3.put("photos.tar", data)


@pytest.fixture
def member(container, photo):
    where, etag, _ = container
    size = len(photo)
    return ImageReference(f"{where}::a.jpg", etag, size, None, where, len(BEFORE), size)


def kinds(results):
    return [item[1].kind.word if isinstance(item, tuple) else "ok" for item in results]


def test_a_photo_inside_a_bigger_file_is_read_exactly(member, photo):
    (found,) = read_images([member])
    assert isinstance(found, EncodedImage)
    assert (found.reference, found.data) == (member, photo)
    decoded = decode(found.data, DecodePolicy())
    assert (decoded.format, decoded.width, decoded.height) == ("JPEG", 80, 60)


def test_members_and_whole_files_are_read_together(member, photo, tmp_path):
    (tmp_path / "b.jpg").write_bytes(photo)
    whole = ImageReference(str(tmp_path / "b.jpg"), "", -1, None)
    results = list(read_images([member, whole] * 40))
    assert {item.data for item in results} == {photo}
    assert [item.reference.uri for item in results] == [member.uri, whole.uri] * 40


@pytest.mark.parametrize("offset", [len(BEFORE) + len(AFTER) + 1, 10**9, 2**62])
def test_a_range_past_the_end_fails_alone(member, offset):
    past = replace(member, offset=offset)
    results = list(read_images([member, past, member]))
    assert kinds(results) == ["ok", "truncated", "ok"]
    assert (results[1][0], results[1][1].stage) == (past, "read")
    assert f"from {offset:,} on are not all in {member.container}" in results[1][1].message


def test_a_container_that_changed_fails_as_changed(member, container):
    where, _, write = container
    unlisted = replace(member, etag="")
    write(AFTER + BEFORE + b"!" * member.length)
    assert kinds(read_images([member, unlisted])) == ["changed", "ok"]
    write(b"short")
    assert kinds(read_images([member, unlisted])) == ["changed", "truncated"]
    assert kinds(read_images([ImageReference(where, "", -1, None)])) == ["ok"]


def test_a_container_that_is_not_there(member):
    lost = replace(member, container=f"{member.container}.lost")
    assert kinds(read_images([lost, replace(lost, length=0, size=0)])) == ["not_found"] * 2


def test_what_a_member_does_not_know_is_filled_in(member):
    (found,) = read_images([replace(member, etag="", size=-1)])
    assert replace(found.reference, modified=None) == member
    assert found.reference.modified is not None


def test_an_empty_member_is_read_as_no_bytes(member):
    (found,) = read_images([replace(member, size=0, length=0)])
    assert found.data == b""


def test_the_limit_is_that_of_the_image_and_not_of_its_container(member):
    policy = ReadPolicy(max_bytes=member.length)
    assert kinds(read_images([member], policy)) == ["ok"]
    unknown = replace(member, size=-1)
    policy = ReadPolicy(max_bytes=member.length - 1)
    assert kinds(read_images([member, unknown], policy)) == ["too_large"] * 2


NO_RANGES = [{"offset": None}, {"length": None}, {"offset": -1}, {"length": -1, "size": -1}]


@pytest.mark.parametrize("change", NO_RANGES)
def test_a_member_without_a_range_has_no_reader(member, change):
    ((_, error),) = read_images([replace(member, **change)])
    assert (error.stage, error.kind.word) == ("read", "unsupported")
    assert error.message == f"where its bytes are in {member.container} is not known"


@pytest.mark.parametrize("container", ["file"], indirect=True)
def test_a_container_that_is_written_to_meanwhile_fails_as_changed(member, monkeypatch):
    seek = os.lseek

    def disturbed(descriptor, *place):
        Path(member.container).write_bytes(b"other bytes" * 10_000)
        return seek(descriptor, *place)

    monkeypatch.setattr(os, "lseek", disturbed)
    assert kinds(read_images([member])) == ["changed"]


def test_a_range_is_asked_for_again(misbehaving, monkeypatch):
    monkeypatch.setattr("transforms.storage.settings._RETRY", {"max_retries": 2})
    monkeypatch.setattr("transforms.storage.retries._WAITS", (0.01,))
    names = ["fine", "503x1", "cutx1", "500x9"]
    urls = [f"s3://bucket/{name}" for name in names]
    members = [ImageReference(f"{url}::m", "abc", 3000, None, url, 500, 3000) for url in urls]
    results = list(read_images(members))
    assert kinds(results) == ["ok", "ok", "ok", "io_error"]
    assert {item.data for item in results[:3]} == {misbehaving.body[500:3500]}
