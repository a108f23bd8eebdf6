"""Prefixes and globs in a bucket, on a real S3 server."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from tests.helpers.s3_server import SPECIAL
from transforms.read import read_images
from transforms.records import REFERENCE_SCHEMA, ImageReference
from transforms.sources import Ignored, parse_input
from transforms.storage import NotFound, Unaddressable, open_storage


def listed(text, ignored=None):
    return pa.Table.from_batches(list(parse_input(text).list_images(ignored)), REFERENCE_SCHEMA)


def keys(s3, text):
    return sorted(
        uri.removeprefix(f"{s3.url}/") for uri in listed(f"{s3.url}/{text}")["uri"].to_pylist()
    )


def test_a_prefix_takes_images_of_any_case_at_any_depth(s3):
    images = ["p/a.jpg", "p/B.JPEG", "p/d/e/f/c.Png"]
    for key in [
        *images,
        "p/notes.txt",
        "p/d/x",
        "p/.h.jpg",
        "p/.h/x.jpg",
        "px.jpg",
        "p-old/x.jpg",
        "x.jpg",
        "p/empty.jpg",
    ]:
        s3.put(key, b"" if "empty" in key else b"data")
    # Empty "directory" objects, as consoles create them.
    s3.put("p/d/", b"")
    s3.put("p/album.jpg/", b"")
    for text in ("p", "p/"):
        ignored = Ignored()
        found = listed(f"{s3.url}/{text}", ignored)
        assert sorted(found["uri"].to_pylist()) == sorted(
            f"{s3.url}/{key}" for key in [*images, "p/empty.jpg"]
        )
        assert ignored == Ignored(other=2, hidden=1)
    assert len(keys(s3, "")) == 7


def test_a_row_says_size_time_and_version(s3):
    s3.put("x.jpg", b"abc")
    table = listed(f"{s3.url}/x*")
    assert table.schema.equals(REFERENCE_SCHEMA)
    (row,) = table.to_pylist()
    assert (row["size"], row["etag"]) == (3, "900150983cd24fb0d6963f7d28e17f72")
    assert row["modified"].year >= 2024
    # By name, without a listing.
    assert listed(f"{s3.url}/x.jpg").to_pylist() == [row]


def test_any_key_is_listed_and_read(s3):
    for key in SPECIAL:
        s3.put(f"in #1/{key}", key.encode())
    table = listed(f"{s3.url}/in #1")
    assert sorted(table["uri"].to_pylist()) == sorted(f"{s3.url}/in #1/{key}" for key in SPECIAL)
    for read in read_images([ImageReference(**row) for row in table.to_pylist()]):
        assert read.data.decode() == read.reference.uri.removeprefix(f"{s3.url}/in #1/")
    for key in SPECIAL:
        assert keys(s3, f"in #1/{key}") == [f"in #1/{key}"]  # literally there, so no glob


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("*", ["notes.txt", "x.jpg"]),
        (
            "**",
            ["a/1/x.jpg", "a/2/x.png", "a/2/y/z.jpg", "a/x.jpg", "b/1/x.jpg", "notes.txt", "x.jpg"],
        ),
        ("a/*/*.jpg", ["a/1/x.jpg"]),
        ("a/**.jpg", ["a/1/x.jpg", "a/2/y/z.jpg", "a/x.jpg"]),
        ("a/**/x.*", ["a/1/x.jpg", "a/2/x.png", "a/x.jpg"]),
        ("[!a]/?/*", ["b/1/x.jpg"]),
        ("a/.h/*", ["a/.h/x.jpg"]),
        ("no/*", []),
    ],
)
def test_globs(s3, pattern, taken):
    for key in [
        "notes.txt",
        "x.jpg",
        "a/1/x.jpg",
        "a/2/x.png",
        "a/2/y/z.jpg",
        "a/x.jpg",
        "b/1/x.jpg",
        "a/.h/x.jpg",
    ]:
        s3.put(key)
    s3.put("a/2/", b"")
    s3.put("b/", b"")
    assert keys(s3, pattern) == taken


def test_an_empty_file_is_taken_and_an_empty_directory_object_is_not(s3):
    s3.put("empty", b"")
    s3.put("directory/", b"")
    assert keys(s3, "*") == ["empty"]


def test_a_name_is_an_object_or_a_prefix(s3):
    s3.put("notes.txt")
    s3.put("p/x.jpg")
    # An empty object marking a folder, as some file systems on buckets create it.
    s3.put("p", b"")
    assert keys(s3, "notes.txt") == ["notes.txt"]
    assert keys(s3, "p") == ["p/x.jpg"]


def test_the_pieces_together_are_the_whole(s3):
    store = open_storage(s3.url)
    wanted = [f"{a}/{b}/{n}.jpg" for a in "abc" for b in "xy" for n in range(200)] + [
        "top.jpg",
        "z/1.jpg",
    ]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda key: store.write(key, b"x"),
                [*wanted, "a/x/notes.txt", ".h/x.jpg", "a/.h.jpg"],
            )
        )
    for text in (s3.url, f"{s3.url}/**", f"{s3.url}/[ab]/**/*.jpg"):
        whole, parts = Ignored(), Ignored()
        source = parse_input(text)
        pieces = pickle.loads(pickle.dumps(source.split()))
        one = [uri for batch in source.list_images(whole) for uri in batch["uri"].to_pylist()]
        many = [
            uri
            for piece in pieces
            for batch in piece.list_images(parts)
            for uri in batch["uri"].to_pylist()
        ]
        assert sorted(many) == sorted(one)
        assert parts == whole
        assert len(one) == (len(wanted) if "[" not in text else 800) + (
            "**" in text and "[" not in text
        )
        assert len(pieces) >= 3
        assert max(sum(b.num_rows for b in piece.list_images()) for piece in pieces) < len(one)


def test_a_small_or_flat_bucket_is_not_cut(s3):
    store = open_storage(s3.url)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.write(f"flat/{n}.jpg", b"x"), range(1001)))
    assert len(parse_input(f"{s3.url}/flat").split()) == 1
    s3.put("small/a/x.jpg")
    assert len(parse_input(f"{s3.url}/small").split()) == 1


def test_what_cannot_be_listed_is_explained(s3):
    with pytest.raises(NotFound, match=r"^the bucket s3://no-such-bucket/ does not exist$"):
        parse_input("s3://no-such-bucket/photos").split()
    s3.put("good.jpg")
    s3.put("x//y.jpg")
    with pytest.raises(
        Unaddressable, match=r"the client cannot address 's3://.*/x//y.jpg': the key has an empty"
    ):
        listed(s3.url)
    assert keys(s3, "good.jpg") == ["good.jpg"]
    assert (
        parse_input(f"{s3.url}/none")
        .nothing_found()
        .startswith(f"no image in {s3.url}/none: looked in {s3.url}/none")
    )
