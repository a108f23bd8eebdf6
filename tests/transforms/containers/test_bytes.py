"""A container is read at any place, as long as it stays what it was when it was opened."""

import os
import random
from pathlib import Path

import pytest

from transforms.containers import bytes as container_bytes
from transforms.containers.bytes import ContainerChanged, Seekable, open_container
from transforms.storage import NotFound, PermissionDenied, StorageError

DATA = random.Random(0).randbytes(2000)


@pytest.fixture(params=["file", "object"])
def place(request, tmp_path):
    """A container's uri, and a function that replaces it."""
    if request.param == "file":
        path = tmp_path / "a.tar"
        path.write_bytes(DATA)
        return str(path), path.write_bytes
    s3 = request.getfixturevalue("s3")
    s3.put("a.tar", DATA)
    return f"{s3.url}/a.tar", lambda data: s3.put("a.tar", data)


def test_any_range_in_any_order(place, monkeypatch):
    """Pieces are few and small here, so that they leave the memory while they are used."""
    monkeypatch.setattr(container_bytes, "_PIECE", 100)
    choose = random.Random(1)
    with open_container(place[0]) as file:
        assert file.size == len(DATA)
        for start, length in [(150, 20), (900, 20), (50, 20), (150, 20)] + [
            (choose.randrange(2100), choose.randrange(300)) for _ in range(300)
        ]:
            assert file.read(start, length) == DATA[start : start + length]
        assert file.reaches(2000)
        assert not file.reaches(2001)


def test_a_container_that_is_not_there(place):
    with pytest.raises(NotFound), open_container(f"{place[0]}.lost"):
        pass


def test_a_container_that_changes_meanwhile(place, monkeypatch):
    monkeypatch.setattr(container_bytes, "_PIECE", 100)
    uri, replace = place
    with pytest.raises(ContainerChanged), open_container(uri) as file:  # noqa: PT012
        file.read(0, 10)
        replace(DATA[::-1] + b"more")
        file.read(1500, 100)


def test_no_byte_of_a_file_that_was_written_to_is_given_out(tmp_path):
    """A stream of images is used while it is read, long before the end notices the change."""
    (tmp_path / "a.tar").write_bytes(DATA)
    with (  # noqa: PT012
        pytest.raises(ContainerChanged),
        open_container(str(tmp_path / "a.tar")) as file,
    ):
        file.read(0, 10)
        with (tmp_path / "a.tar").open("r+b") as other:
            other.write(b"other")
        os.utime(tmp_path / "a.tar", ns=(1, 1))
        with pytest.raises(ContainerChanged):
            file.read(0, 10_000)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_not_there(tmp_path, kind):
    path = tmp_path / "a.tar"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(NotFound, match="is not a file"), open_container(str(path)):
        pass


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionDenied, match="Permission denied"), open_container("/a.tar"):
        pass


def test_a_failing_disk(tmp_path, monkeypatch):
    (tmp_path / "a.tar").write_bytes(DATA)

    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    with (
        pytest.raises(StorageError, match="Input/output error"),
        open_container(str(tmp_path / "a.tar")) as file,
    ):
        file.read(0, 10)


def test_as_a_file_object_it_is_like_a_file(tmp_path):
    path: Path = tmp_path / "a.tar"
    path.write_bytes(DATA)
    choose = random.Random(2)
    with open_container(str(path)) as container, path.open("rb") as plain:
        file = Seekable(container)
        for _ in range(200):
            whence = choose.randrange(3)
            offset = choose.randrange(-300, 300)
            try:
                expected = plain.seek(offset, whence)
            except (OSError, ValueError):
                with pytest.raises(OSError, match="negative position"):
                    file.seek(offset, whence)
                continue
            assert file.seek(offset, whence) == expected == file.tell()
            length = choose.randrange(100)
            assert file.read(length) == plain.read(length)
