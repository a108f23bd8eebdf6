"""A manifest gives the images, and the values beside them, as its rows hold them."""

import json
import re

import pytest

from transforms.carried import Carry
from transforms.errors import UserError
from transforms.sources.manifests import parse_manifest

ALL = Carry(("all",))


def parse(folder, name, text, **options):
    (folder / name).write_bytes(text.encode())
    return parse_manifest(f"manifest:{folder / name}", **options)


def test_a_csv_with_a_mark_quoted_line_breaks_and_crlf(tmp_path):
    text = '\ufefffile_name,caption\r\nx/a.jpg,"one\r\ntwo"\r\nb.jpg,\r\n'
    found = parse(tmp_path, "m.csv", text, carry=ALL)
    assert found.uris == (f"{tmp_path}/x/a.jpg", f"{tmp_path}/b.jpg")
    assert [source and json.loads(source) for source in found.sources] == [
        {"caption": "one\r\ntwo"},
        None,
    ]


def test_words_that_look_like_nothing_are_values(tmp_path):
    found = parse(tmp_path, "m.csv", "file_name,caption\nnull,NA\nb.jpg,nan\n", carry=ALL)
    assert found.uris == (f"{tmp_path}/null", f"{tmp_path}/b.jpg")
    assert [json.loads(source) for source in found.sources] == [
        {"caption": "NA"},
        {"caption": "nan"},
    ]


def test_an_etag_of_digits_keeps_its_zeros(tmp_path):
    found = parse(tmp_path, "m.csv", "uri,etag,size\na.jpg,00123,5\n")
    assert found.known == (("00123", 5),)


def test_empty_sizes_make_the_run_ask_the_store(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    found = parse(tmp_path, "m.csv", "uri,etag,size\na.jpg,,\n")
    (batch,) = found.list_images()
    assert batch["size"].to_pylist() == [3]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "uri,etag,size,size\na.jpg,e,5,6\n", "has the column 'size' twice"),
        ("m.csv", "uri,etag,etag,size\na.jpg,e,f,6\n", "has the column 'etag' twice"),
        ("m.csv", "uri,c,c\na.jpg,1,2\n", "has the column 'c' twice"),
        ("m.csv", "uri,uri\na.jpg,b.jpg\n", "has the column 'uri' twice"),
        ("m.csv", "uri\n", "it has no rows"),
        ("m.csv", "picture\na.jpg\n", "none of the columns uri, .*; it has picture;"),
        ("m.csv", "uri,c\na.jpg,1\n,2\n", "row 2: the column 'uri' is empty"),
        ("m.csv", "uri\na.jpg\nhttp://h/b.jpg\n", "row 2, column uri: .*http:// is not supported"),
        ("m.jsonl", '{"uri":"a.jpg"', "cannot be read"),
        ("m.jsonl", '{"uri":"a.jpg","x":' + "[" * 900 + "]" * 900 + "}", "more than 32 deep"),
        ("m.txt", "uri\na.jpg\n", "ends in one of .csv .tsv"),
    ],
)
def test_a_wrong_manifest_is_explained_in_one_line(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as raised:
        parse(tmp_path, name, text, carry=ALL)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "entry", ["s3://another-bucket/x.jpg", "gs://bucket/x.jpg", "/etc/passwd", "../../x.jpg"]
)
def test_a_manifest_in_a_bucket_names_only_objects_of_it(s3, entry):
    s3.put("lists/m.csv", f"uri\na.jpg\n{entry}\n".encode())
    message = "row 2, column uri: .*(of the same bucket|leads out of|is not supported)"
    with pytest.raises(UserError, match=message):
        parse_manifest(f"manifest:{s3.url}/lists/m.csv")
    s3.put("lists/m.csv", b"uri\na.jpg\n")
    assert parse_manifest(f"manifest:{s3.url}/lists/m.csv").uris == (f"{s3.url}/lists/a.jpg",)


def test_the_column_is_chosen_by_name(tmp_path):
    found = parse(tmp_path, "m.tsv", "uri\tmine\na.jpg\tb.jpg\n", uri_column="mine")
    assert found.uris == (f"{tmp_path}/b.jpg",)
    with pytest.raises(UserError, match=re.escape("has no column 'other'; it has uri, mine;")):
        parse(tmp_path, "m.tsv", "uri\tmine\na.jpg\tb.jpg\n", uri_column="other")
