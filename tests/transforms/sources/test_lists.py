"""Every line of a list becomes a reference, also for a missing file, unless it is forbidden."""

import io
import pickle
import sys
from pathlib import Path

import pytest

from transforms.errors import UserError
from transforms.read import read_images
from transforms.records import ImageReference
from transforms.sources import parse_input


def rows(source):
    return [row for batch in source.list_images() for row in batch.to_pylist()]


def test_a_list_names_images_line_by_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [
        "# first.jpg",
        " edge .jpg",
        "*.jpg",
        "[1].jpg",
        "ünï.jpg",
        "list:x.jpg",
        "-",
        "notes.txt",
    ]
    for name in names:
        Path(name).write_bytes(name.encode())
    lines = [*names, "", (tmp_path / "ünï.jpg").as_uri(), str(tmp_path / "[1].jpg")]
    (tmp_path / "list.txt").write_bytes("\ufeff".encode() + "\r\n".join(lines).encode() + b"\r\n")
    found = rows(parse_input("list:list.txt"))
    assert [row["uri"] for row in found] == [
        str(tmp_path / name) for name in [*names, "ünï.jpg", "[1].jpg"]
    ]
    assert [row["size"] for row in found[:8]] == [len(name.encode()) for name in names]
    assert found == rows(parse_input(f"list:file://{tmp_path}/list.txt"))
    same_file = rows(parse_input(str(tmp_path / "[1].jpg")))
    assert same_file == [found[3]]


def test_standard_input_travels_with_the_source(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{tmp_path}/a.jpg\n".encode())))
    source = pickle.loads(pickle.dumps(parse_input("list:-")))
    monkeypatch.setattr(sys, "stdin", None)
    assert [(row["uri"], row["size"]) for row in rows(source)] == [(f"{tmp_path}/a.jpg", 3)]


def test_what_is_not_there_is_listed_to_fail_in_view(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.txt").write_text(
        f"{tmp_path}/gone.jpg\n{tmp_path}/folder\n{tmp_path}/list.txt/x.jpg\n"
    )
    found = rows(parse_input(f"list:{tmp_path}/list.txt"))
    assert [(row["etag"], row["size"], row["modified"]) for row in found] == [("", -1, None)] * 3
    errors = [error for _, error in read_images([ImageReference(**row) for row in found])]
    assert [error.kind.word for error in errors] == ["not_found", "unsupported", "not_found"]


def test_a_long_list_is_cut_into_pieces(tmp_path):
    names = [f"{tmp_path}/{number}.jpg" for number in range(25_000)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    source = parse_input(f"list:{tmp_path}/list.txt")
    pieces = source.split()
    assert [len(rows(piece)) for piece in pieces] == [10_000, 10_000, 5_000]
    assert [row["uri"] for piece in pieces for row in rows(piece)] == names
    assert [batch.num_rows for batch in source.list_images()] == [10_000, 10_000, 5_000]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.jpg\nhttp://host/x.jpg\n",
            r"line 2: .* http:// is not supported; allowed: a local path, file://, s3://",
        ),
        ("ftp://host/x.jpg", r"line 1: .* ftp:// is not supported"),
        ("\n\ns3://bucket\n", r"line 3: 's3://bucket' names no object"),
        ("s3://b*/x.jpg", r"line 1: .* no wildcard in BUCKET"),
        ("a\0.jpg", r"line 1: .* is not a path"),
        ("\n\r\n", r"names no image"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "list.txt").write_bytes(text.encode())
    with pytest.raises(UserError, match=message):
        parse_input(f"list:{tmp_path}/list.txt")


def test_a_list_that_cannot_be_read_is_explained(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    with pytest.raises(UserError, match="has to be UTF-8"):
        parse_input(f"list:{tmp_path}/list.txt")
    with pytest.raises(UserError, match=r"cannot read the list .*nothing.txt: No such file"):
        parse_input(f"list:{tmp_path}/nothing.txt")
    with pytest.raises(UserError, match="http:// is not supported"):
        parse_input("list:http://host/list.txt")


def test_a_list_in_a_bucket_names_objects(s3, tmp_path):
    s3.put("a b%2F#.jpg", b"abc")
    s3.put(
        "lists/all.txt",
        f"{s3.url}/a b%2F#.jpg\n{s3.url}/gone.jpg\n{s3.url}/a//b.jpg\n".encode(),
    )
    source = parse_input(f"list:{s3.url}/lists/all.txt")
    found = rows(source)
    assert [row["size"] for row in found] == [3, -1, -1]
    assert found[0]["etag"] == "900150983cd24fb0d6963f7d28e17f72"
    first, *others = read_images([ImageReference(**row) for row in found])
    assert first.data == b"abc"
    assert [error.kind.word for _, error in others] == ["not_found", "unsupported"]
    assert source.nothing_found() == f"list:{s3.url}/lists/all.txt names no image"


@pytest.mark.parametrize(
    "entry",
    ["/etc/passwd", "relative.jpg", "file:///etc/passwd", "s3://another-bucket/x.jpg", "gs://bucket/x.jpg",
     "https://host/x.jpg", "{}-too/x.jpg"],
)  # fmt: skip
def test_a_list_in_a_bucket_names_nothing_but_objects_of_that_bucket(s3, entry):
    """Otherwise whoever can write the list could have us read other files with our rights."""
    s3.put("list.txt", f"{s3.url}/x.jpg\n{entry.format(s3.url)}\n".encode())
    with pytest.raises(
        UserError, match=r"line 2: .*(may only name objects of the same bucket|is not supported)"
    ):
        parse_input(f"list:{s3.url}/list.txt")


def test_dots_in_a_listed_key_are_no_way_up(s3, tmp_path):
    """The client cannot express such a key, and must not read another object or bucket instead."""
    s3.put("up.jpg", b"abc")
    s3.put(
        "list.txt",
        f"{s3.url}/a/../up.jpg\n{s3.url}/../{s3.bucket}/up.jpg\n{s3.url}/%2E%2E/up.jpg\n".encode(),
    )
    results = list(
        read_images([ImageReference(**row) for row in rows(parse_input(f"list:{s3.url}/list.txt"))])
    )
    assert [error.kind.word for _, error in results] == ["unsupported", "unsupported", "not_found"]
