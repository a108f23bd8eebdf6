"""Reading: in order, in bounds, and each failure its own row."""

import os
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from transforms import read, readers
from transforms.errors import ImageError
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.readers import FileReader
from transforms.records import ImageReference
from transforms.sources import parse_input


def references(text):
    return [
        ImageReference(**row)
        for batch in parse_input(str(text)).list_images()
        for row in batch.to_pylist()
    ]


def make(root, count, size=10):
    root.mkdir(exist_ok=True)
    for number in range(count):
        (root / f"{number:04d}.jpg").write_bytes(number.to_bytes(2, "big") * (size // 2))
    return references(root)


def words(results):
    return [item[1].kind.word if isinstance(item, tuple) else "ok" for item in results]


def test_images_come_in_order_with_errors_in_between(tmp_path):
    listed = make(tmp_path / "in", 300)
    for number in (0, 7, 150, 299):
        Path(listed[number].uri).unlink()
    results = list(read_images(listed, ReadPolicy(concurrency=3)))
    assert [item[0] if isinstance(item, tuple) else item.reference for item in results] == listed
    assert [number for number, word in enumerate(words(results)) if word != "ok"] == [
        0,
        7,
        150,
        299,
    ]
    for item in results:
        if isinstance(item, EncodedImage):
            assert item.data == Path(item.reference.uri).read_bytes()
        else:
            assert (item[1].stage, item[1].kind.word) == ("read", "not_found")


def test_nothing_to_read():
    assert list(read_images([])) == []


def test_bytes_read_ahead_stay_within_the_bound(tmp_path, monkeypatch):
    listed = (
        make(tmp_path / "in", 40, 1000)
        + make(tmp_path / "one large", 1, 9000)
        + make(tmp_path / "more", 40, 1000)
    )
    lock, started, taken, most = threading.Lock(), 0, 0, 0
    read_file = FileReader.read

    def counting(reader, reference, max_bytes):
        nonlocal started, most
        with lock:
            started += reference.size
            most = max(most, started - taken)
        return read_file(reader, reference, max_bytes)

    monkeypatch.setattr(FileReader, "read", counting)
    for item in read_images(listed, ReadPolicy(concurrency=16, max_bytes_in_flight=5000)):
        assert isinstance(item, EncodedImage)
        with lock:
            taken += len(item.data)
    assert taken == started == 89_000
    assert most == 9000  # the large one, by itself


def test_reads_really_happen_at_once(tmp_path, monkeypatch):
    together = threading.Barrier(8, timeout=20)
    read_file = FileReader.read

    def meeting(reader, reference, max_bytes):
        together.wait()
        return read_file(reader, reference, max_bytes)

    monkeypatch.setattr(FileReader, "read", meeting)
    assert words(read_images(make(tmp_path / "in", 16), ReadPolicy(concurrency=8))) == ["ok"] * 16


def test_one_thread_reads_a_disk_that_keeps_up(tmp_path, monkeypatch):
    listed, busy, most = make(tmp_path / "in", 640), set(), []
    read_file = FileReader.read

    def counted(reader, reference, max_bytes):
        busy.add(threading.get_ident())
        most.append(len(busy))
        result = read_file(reader, reference, max_bytes)
        busy.discard(threading.get_ident())
        return result

    monkeypatch.setattr(read, "_PATIENCE", 60)
    monkeypatch.setattr(FileReader, "read", counted)
    assert words(read_images(listed, ReadPolicy(concurrency=64))) == ["ok"] * 640
    assert max(most) == 1


@pytest.mark.parametrize("concurrency", [2, 64])
def test_a_consumer_that_stops_early_ends_the_reading(tmp_path, monkeypatch, concurrency):
    listed = make(tmp_path / "in", 60)
    begun, first, closing = [], threading.Event(), threading.Event()
    read_file = FileReader.read

    def gated(reader, reference, max_bytes):
        # Before, threads may come in any order
        if first.is_set():
            begun.append(reference)
            assert closing.wait(20)
        try:
            return read_file(reader, reference, max_bytes)
        finally:
            if reference == listed[0]:
                first.set()

    class Pool(read.ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closing.set()
            super().shutdown(wait)

    monkeypatch.setattr(read, "_PATIENCE", 60)
    monkeypatch.setattr(FileReader, "read", gated)
    monkeypatch.setattr(read, "ThreadPoolExecutor", Pool)
    images = read_images(listed, ReadPolicy(concurrency=concurrency))
    next(images)
    images.close()
    # Under way; the others were waiting for their turn
    assert len(begun) <= 1
    assert [thread for thread in threading.enumerate() if thread.name.startswith("read")] == []


def test_an_image_over_the_limit_is_not_read(tmp_path, monkeypatch):
    (listed,) = make(tmp_path / "in", 1, 1000)
    monkeypatch.setattr(readers, "_read_exactly", lambda *_: pytest.fail("read all the same"))
    # By its listed and by its real size
    for reference in (listed, replace(listed, etag="", size=-1)):
        ((_, error),) = read_images([reference], ReadPolicy(max_bytes=999))
        assert error.kind.word == "too_large"
        assert error.message == "1,000 bytes; --max-image-bytes allows 999"
    monkeypatch.undo()
    assert words(read_images([listed], ReadPolicy(max_bytes=1000))) == ["ok"]
    Path(listed.uri).unlink()
    assert words(read_images([listed], ReadPolicy(max_bytes=999))) == [
        "too_large"
    ]  # not even asked for


def test_a_file_that_is_not_the_listed_one_fails_as_changed(tmp_path):
    listed = make(tmp_path / "in", 3)
    Path(listed[0].uri).write_bytes(b"longer than it was")
    os.utime(listed[1].uri, ns=(0, 1))
    assert words(read_images(listed)) == ["changed", "changed", "ok"]
    assert words(read_images([replace(listed[2], etag="")])) == ["ok"]
    assert words(read_images([replace(listed[2], etag="", size=9)])) == ["changed"]


def test_a_file_that_is_written_to_while_it_is_read_fails_as_changed(tmp_path, monkeypatch):
    (listed,) = make(tmp_path / "in", 1)
    read_exactly = readers._read_exactly

    def disturbed(take, size):
        data = read_exactly(take, size)
        Path(listed.uri).write_bytes(b"0123456789")
        return data

    monkeypatch.setattr(readers, "_read_exactly", disturbed)
    assert words(read_images([listed])) == ["changed"]


def test_what_the_reference_does_not_know_is_filled_in(tmp_path, s3):
    (listed,) = make(tmp_path / "in", 1)
    (found,) = read_images([ImageReference(listed.uri, "", -1, None)])
    assert found.reference == listed
    s3.put("x.jpg", b"abc")
    (found,) = read_images([ImageReference(f"{s3.url}/x.jpg", "", -1, None)])
    assert found.reference == references(f"{s3.url}/x.jpg")[0]
    assert isinstance(found.reference.modified, datetime)


def test_a_pipe_and_a_folder_do_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = [tmp_path / "pipe.jpg", tmp_path, Path(os.devnull)]
    assert (
        words(read_images([ImageReference(str(path), "", -1, None) for path in paths]))
        == ["unsupported"] * 3
    )


def test_the_error_of_the_system_becomes_a_kind(tmp_path, monkeypatch):
    listed = make(tmp_path / "in", 3)
    troubles = iter(
        [
            PermissionError(13, "Permission denied"),
            OSError(5, "Input/output error"),
            NotADirectoryError(20, ""),
        ]
    )

    def fail(*_):
        raise next(troubles)

    monkeypatch.setattr(os, "open", fail)
    results = list(read_images(listed, ReadPolicy(concurrency=1)))
    assert words(results) == ["permission_denied", "io_error", "not_found"]
    assert results[1][1].message == "cannot be read: Input/output error"


def test_a_file_that_comes_in_small_pieces_is_read_whole():
    pieces = iter([b"ab", b"c", b"de"])
    assert readers._read_exactly(lambda size: next(pieces), 5) == b"abcde"
    short = iter([b"ab", b""])
    assert readers._read_exactly(lambda size: next(short), 5) == b"ab"


def test_an_object_cannot_send_us_elsewhere(s3):
    """S3 keeps such a redirect for websites; whoever uploads an object may set it."""
    s3.put("secret.jpg", b"another object")
    s3.client.put_object(
        Bucket=s3.bucket, Key="x.jpg", Body=b"its own", WebsiteRedirectLocation="/secret.jpg"
    )
    [item] = read_images([ImageReference(f"{s3.url}/x.jpg", "", -1, None)])
    assert item.data == b"its own"


def test_objects_of_a_bucket(s3):
    for number in range(40):
        s3.put(f"p/{number:02d}.jpg", bytes([number]) * 100)
    listed = references(f"{s3.url}/p/")
    s3.put("p/05.jpg", b"x" * 100)
    s3.client.delete_object(Bucket=s3.bucket, Key="p/07.jpg")
    results = list(
        read_images(
            [*listed, ImageReference(f"{s3.url}/a//b", "", -1, None)], ReadPolicy(concurrency=8)
        )
    )
    assert [
        item[0].uri if isinstance(item, tuple) else item.reference.uri for item in results[:40]
    ] == [reference.uri for reference in listed]
    assert [(number, word) for number, word in enumerate(words(results)) if word != "ok"] == [
        (5, "changed"),
        (7, "not_found"),
        (40, "unsupported"),
    ]
    assert results[6].data == bytes([6]) * 100
    unknown = replace(listed[6], etag="", size=-1)
    assert words(read_images([unknown], ReadPolicy(max_bytes=99))) == ["too_large"]


def test_a_bucket_in_trouble(misbehaving, monkeypatch):
    monkeypatch.setattr("transforms.storage.settings._RETRY", {"max_retries": 2})
    monkeypatch.setattr("transforms.storage.retries._WAITS", (0.01,))
    names = ["503x1", "cutx1", "429x2", "403x9", "400x9", "500x9", "cutx99.jpg", "fine"]
    results = list(
        read_images([ImageReference(f"s3://bucket/{name}", "abc", 102_400, None) for name in names])
    )
    assert words(results) == [
        "ok",
        "ok",
        "ok",
        "permission_denied",
        "io_error",
        "io_error",
        "io_error",
        "ok",
    ]
    assert {item.data for item in results if isinstance(item, EncodedImage)} == {misbehaving.body}
    assert misbehaving.requests["500x9"] == 3
    for item in results:
        if isinstance(item, tuple):
            assert isinstance(item[1], ImageError)
            assert item[0].uri in item[1].message
            assert "\n" not in item[1].message
