"""Labels of rows, and the side of each image."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.training.labels import read_labels
from pipeline.training.split import split_of
from transforms.errors import UserError


def table(*uris: str, **source: list[object]) -> pa.Table:
    rows = {"uri": list(uris)}
    if source:
        rows["source"] = [
            dict(zip(source, values, strict=True)) for values in zip(*source.values(), strict=True)
        ]
    return pa.table(rows)


def names(spec: str, rows: pa.Table) -> list[list[str]]:
    labels = read_labels(spec, rows)
    return [[labels.classes[place] for place in row] for row in labels.of_rows]


def test_a_folder_is_a_label() -> None:
    rows = table("/a/cat/1.jpg", "s3://b/dog/2.jpg", "/x.tar::owl/3.jpg", "/x.tar::4.jpg")
    assert names("folder", rows) == [["cat"], ["dog"], ["owl"], []]
    labels = read_labels("folder", rows)
    assert (labels.unlabelled, labels.exclusive) == (1, True)


def test_a_column_is_a_label_or_a_list_of_them() -> None:
    uris = ("/1", "/2", "/3")
    one = table(*uris, kind=["b", None, "a"], n=[1, 2, 2])
    assert names("column:kind", one) == [["b"], [], ["a"]]
    assert names("column:n", one) == [["1"], ["2"], ["2"]]
    several = table(*uris, tags=[["b", "a"], [], ["a", "a", None]])
    assert names("column:tags", several) == [["a", "b"], [], ["a"]]
    assert not read_labels("column:tags", several).exclusive
    with pytest.raises(UserError, match=r"column:gone: .* there are kind, n"):
        read_labels("column:gone", one)
    with pytest.raises(UserError, match=r"column:gone: .* it has none"):
        read_labels("column:gone", table(*uris))


def test_a_csv_gives_labels_by_uri_or_relative_path(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('\ufeffuri,label\nin/1.jpg,a\n\n"s3://b/2,x.jpg",b\nelse.jpg,c\n')
    rows = table(f"{tmp_path}/in/1.jpg", "s3://b/2,x.jpg", "/3.jpg")
    assert names(f"csv:{path}", rows) == [["a"], ["b"], []]
    (tmp_path / "link").symlink_to(tmp_path)
    assert names(f"csv:{tmp_path}/link/labels.csv", rows) == [["a"], ["b"], []]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"line 1 is ''; it must be uri,label"),
        (b"name,label\n", r"line 1 is 'name,label'"),
        (b"uri,label\n/1,a\n/2,b,c\n", "line 3 has 3 values; each line is uri,label"),
        (b"uri,label\n/1,a\n/1,b\n", "line 3 gives /1 another label than a line before"),
        (b'uri,label\n/1,"a', "line 2: unexpected end of data"),
        (b"uri,label\n/1,a\n", "all images have the label a"),
        (b"uri,label\n/8,a\n/9,\x1b[2J\n", r"none of its images is in the table, such as /8, /9"),
        (b"uri,label\n/1,a\n\xff,a\n/2,b\n", "line 3 is no UTF-8 text"),
        (b"uri,label\n/1\0,a\n" + b"x" * 9999 + b",b\n", "none of its images is in the table"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_csv_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"csv:{path}: ") + message) as error:
        read_labels(f"csv:{path}", table("/1", "/2"))
    assert str(error.value).isprintable()


def test_other_words_and_too_few_labels_are_refused() -> None:
    with pytest.raises(UserError, match="must be folder, column:NAME or csv:FILE"):
        read_labels("tags", table("/a/1", "/b/2"))
    with pytest.raises(UserError, match=r"all images have the label \\x1b\[2J; .* at least two"):
        read_labels("folder", table("/\x1b[2J/1", "/\x1b[2J/2"))
    with pytest.raises(UserError, match="no image has a label"):
        read_labels("folder", table("1.jpg"))


def test_the_side_depends_on_the_content_alone() -> None:
    import hashlib

    contents = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(4000)]
    sides = [split_of(content) for content in contents]
    assert [round(sides.count(s) / 4000, 1) for s in ("train", "validation", "test")] == [
        0.8,
        0.1,
        0.1,
    ]
    assert (split_of("0" * 64), split_of("d" * 64), split_of("f" * 64)) == (
        "train",
        "validation",
        "test",
    )
