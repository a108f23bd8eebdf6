"""Local folders, globs and single files list every image once, under its own name."""

import glob
import os
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from transforms.errors import UserError
from transforms.read import read_images
from transforms.records import REFERENCE_SCHEMA, ImageReference
from transforms.sources import IMAGE_EXTENSIONS, Ignored, parse_input
from transforms.sources.groups import group_pieces

SPECIAL = [
    "a b.jpg",
    "ünï日本😀.jpg",
    "100%.jpg",
    "a%20b.jpg",
    "c#d.jpg",
    "e?f.jpg",
    "[1].jpg",
    "*.jpg",
    "new\nline.jpg",
]
SPECIAL += [
    "back\\slash.jpg",
    "quo'\"te.jpg",
    " edge .jpg",
    "a:b@c&d=e;f,g.jpg",
    "nfd-u\u0308.jpg",
    "~.jpg",
    "-x.jpg",
]


def listed(text, pieces=False):
    source = parse_input(str(text))
    batches = [
        batch for piece in (source.split() if pieces else [source]) for batch in piece.list_images()
    ]
    assert all(batch.num_rows for batch in batches)
    return pa.Table.from_batches(batches, REFERENCE_SCHEMA).sort_by("uri")


def names(text, root, pieces=False):
    return [os.path.relpath(uri, root) for uri in listed(text, pieces)["uri"].to_pylist()]


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def test_a_folder_takes_images_of_any_case_at_any_depth(tmp_path):
    images = [f"{'d/' * depth}x{end}" for depth, end in enumerate(IMAGE_EXTENSIONS)] + [
        "Y.JPG",
        "z.TiFf",
    ]
    make(
        tmp_path,
        *images,
        "notes.txt",
        "jpg",
        "d/x.jpg.bak",
        ".hidden.jpg",
        ".git/x.jpg",
        "d/.DS_Store",
    )
    ignored = Ignored()
    found = list(parse_input(str(tmp_path)).list_images(ignored))
    uris = [uri for batch in found for uri in batch["uri"].to_pylist()]
    assert sorted(uris) == sorted(str(tmp_path / name) for name in images)
    assert ignored == Ignored(other=3, hidden=2, links=0)
    assert ignored.total == 5


def test_a_row_says_size_time_and_version(tmp_path):
    path = make(tmp_path, "x.jpg") / "x.jpg"
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    before = listed(tmp_path)
    assert before.schema.equals(REFERENCE_SCHEMA)
    (row,) = before.to_pylist()
    assert row["size"] == 5
    assert row["modified"] == datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123456)
    os.utime(path, ns=(0, 1_700_000_000_123_456_790))
    assert listed(tmp_path)["etag"].to_pylist() != [row["etag"]]


@pytest.mark.parametrize("name", SPECIAL)
def test_any_name_is_listed_and_read(tmp_path, name):
    make(tmp_path / name.replace(".jpg", ""), name)
    row = listed(tmp_path).to_pylist()[0]
    assert row["uri"] == str(tmp_path / name.replace(".jpg", "") / name)
    (read,) = read_images([ImageReference(**row)])
    assert read.data == name.encode()


@pytest.mark.parametrize("name", SPECIAL)
def test_what_exists_literally_is_no_glob(tmp_path, name):
    make(tmp_path, "1.jpg", "exf.jpg", name, f"in {name}/a.jpg", "in 1.jpg/b.jpg")
    assert names(tmp_path / name, tmp_path) == [name]
    assert names(tmp_path / f"in {name}", tmp_path) == [f"in {name}/a.jpg"]
    assert names(tmp_path / f"in {name}" / "*.jpg", tmp_path) == [f"in {name}/a.jpg"]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "*",
            "*.jpg",
            "**",
            "**/*.jpg",
            "a/**/c.jpg",
            "a/*/c.jpg",
            "?/[b-z]/*",
            "[!a]*/**",
            "*/*/*/*",
        ),
        *("a/b/c.jpg/*", "x/*", "**/b/**", "./a//b/*", "a/.h/*", ".*", "**/.h/*"),
    ],
)
def test_a_glob_takes_what_the_standard_library_takes(tmp_path, pattern):
    make(
        tmp_path,
        "a.jpg",
        "notes.txt",
        "a/b/c.jpg",
        "a/c.jpg",
        "a/b/d/c.jpg",
        "a/b/x.txt",
        "b/c/d/e.png",
        ".h.jpg",
    )
    make(tmp_path, ".h/x.jpg", "a/.h/x.jpg", "x y/[1].jpg")
    wanted = {
        str(Path(p))
        for p in glob.glob(f"{tmp_path}/{pattern}", recursive=True)  # noqa: PTH207
        if Path(p).is_file()
    }
    found = listed(f"{tmp_path}/{pattern}")["uri"].to_pylist()
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_a_glob_takes_files_of_any_name(tmp_path):
    make(tmp_path, "a.jpg", "broken.txt")
    ignored = Ignored()
    assert sum(batch.num_rows for batch in parse_input(f"{tmp_path}/*").list_images(ignored)) == 2
    assert ignored.total == 0


def test_a_relative_path_and_a_file_url_become_absolute_paths(tmp_path, monkeypatch):
    make(tmp_path, "in [1]/a b.jpg")
    monkeypatch.chdir(tmp_path / "in [1]")
    wanted = [str(tmp_path / "in [1]/a b.jpg")]
    for text in (
        ".",
        "../in [1]",
        "*.jpg",
        "a b.jpg",
        "**",
        (tmp_path / "in [1]").as_uri(),
        f"file://{tmp_path}/in [1]",
    ):
        assert listed(text)["uri"].to_pylist() == wanted, text
    source = pickle.loads(pickle.dumps(parse_input("*.jpg")))
    monkeypatch.chdir("/")  # a worker's folder is another one
    assert [uri for batch in source.list_images() for uri in batch["uri"].to_pylist()] == wanted


def test_a_root_that_is_a_link_may_lead_elsewhere_at_the_next_listing(tmp_path):
    for night in ("a", "b"):
        (make(tmp_path / night, "x.jpg") / "link.jpg").symlink_to("x.jpg")
    for night in ("a", "b"):
        (tmp_path / "newest").unlink(missing_ok=True)
        (tmp_path / "newest").symlink_to(night)
        uris = listed(tmp_path / "newest")["uri"].to_pylist()
        assert uris == [f"{tmp_path}/newest/{name}.jpg" for name in ("link", "x")]


def test_links_to_files_of_the_tree_are_followed_and_others_are_not(tmp_path):
    make(tmp_path / "elsewhere", "far.jpg")
    make(tmp_path / "root-too", "near.jpg")
    root = make(tmp_path / "root", "a/x.jpg")
    (root / "a" / "way").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "a" / "up").symlink_to("..")
    (root / "far").symlink_to(tmp_path / "elsewhere")
    (root / "link.jpg").symlink_to("a/x.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "elsewhere/far.jpg")
    (root / "twice.jpg").symlink_to("out.jpg")
    (root / "through.jpg").symlink_to("a/way/far.jpg")
    (root / "beside.jpg").symlink_to(tmp_path / "root-too/near.jpg")
    (root / "later.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "broken.jpg").symlink_to("nothing.jpg")
    ignored = Ignored()
    rows = {
        Path(row["uri"]).name: row
        for b in parse_input(str(root)).list_images(ignored)
        for row in b.to_pylist()
    }
    assert sorted(rows) == ["broken.jpg", "link.jpg", "x.jpg"]
    assert ignored.links == 4 + 5
    assert rows["link.jpg"]["etag"] == rows["x.jpg"]["etag"]
    assert (rows["broken.jpg"]["etag"], rows["broken.jpg"]["size"]) == ("", -1)
    assert listed(root / "far")["uri"].to_pylist() == [str(root / "far/far.jpg")]  # named, so meant
    assert listed(root / "out.jpg")["size"].to_pylist() == [len("far.jpg")]
    (tmp_path / "list.txt").write_text(f"{root}/out.jpg\n")
    assert listed(f"list:{tmp_path}/list.txt")["size"].to_pylist() == [len("far.jpg")]


def test_what_is_no_file_is_not_listed(tmp_path):
    make(tmp_path, "x.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    ignored = Ignored()
    assert sum(batch.num_rows for batch in parse_input(str(tmp_path)).list_images(ignored)) == 1
    assert ignored == Ignored(other=1)
    assert names(tmp_path / "*", tmp_path) == ["x.jpg"]


def test_a_name_that_is_not_utf_8_ends_as_a_failure_and_not_nowhere(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    (row,) = listed(tmp_path).to_pylist()
    assert row == {"uri": f"{tmp_path}/caf\\xe9.jpg", "etag": "", "size": -1, "modified": None}
    ((_, error),) = read_images([ImageReference(**row)])
    assert error.kind.word == "not_found"


def test_the_order_is_always_the_same(tmp_path):
    make(tmp_path, "b/2.jpg", "b/1.jpg", "a/1.jpg", "c.jpg", "a.jpg")
    (batch,) = parse_input(str(tmp_path)).list_images()
    found = [os.path.relpath(uri, tmp_path) for uri in batch["uri"].to_pylist()]
    assert found == ["a.jpg", "c.jpg", "a/1.jpg", "b/1.jpg", "b/2.jpg"]


@pytest.mark.parametrize("text", ["{}", "{}/**", "{}/**/*.jpg", "{}/[a-c]/**/x*", "{}/**x.jpg"])
def test_the_pieces_together_are_the_whole(tmp_path, text):
    make(
        tmp_path,
        *(f"{a}/{b}/{c}x.jpg" for a in "abcdef" for b in "pqrstuvw" for c in "12"),
        "x.jpg",
        "a/x.txt",
    )
    make(tmp_path, ".h/x.jpg", "b/.x.jpg", "b/p/d/e/f/x.jpg")
    (tmp_path / "a" / "up").symlink_to("..")
    source = parse_input(text.format(tmp_path))
    pieces = pickle.loads(pickle.dumps(source.split()))
    whole, parts = Ignored(), Ignored()
    wanted = [uri for batch in source.list_images(whole) for uri in batch["uri"].to_pylist()]
    found = [
        uri
        for piece in pieces
        for batch in piece.list_images(parts)
        for uri in batch["uri"].to_pylist()
    ]
    assert sorted(found) == sorted(wanted)
    assert parts == whole
    assert 1 < len(pieces) <= 32
    assert max(sum(b.num_rows for b in piece.list_images()) for piece in pieces) < len(wanted)


def test_a_folder_of_very_many_folders_is_not_cut_into_as_many_pieces(tmp_path):
    make(tmp_path, *(f"{number}/x.jpg" for number in range(200)))
    assert len(parse_input(str(tmp_path)).split()) == 32
    assert listed(tmp_path, pieces=True).num_rows == 200


def test_batches_hold_at_most_ten_thousand(tmp_path):
    for number in range(10_001):
        (tmp_path / f"{number}.jpg").touch()
    assert [batch.num_rows for batch in parse_input(str(tmp_path)).list_images()] == [10_000, 1]


def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path, monkeypatch):
    make(tmp_path, "closed/x.jpg")
    scandir = os.scandir

    def deny(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(UserError, match=r"cannot list the folder .*/closed: Permission denied"):
        listed(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "http://x/y.jpg", "s3://", "a\0b", "*/", "a**b**c", "s3://buck?t/x"]
)
def test_nonsense_is_refused_at_once(text):
    with pytest.raises(UserError):
        parse_input(text)


def test_no_match_is_explained(tmp_path):
    with pytest.raises(UserError, match=rf"^there is no file or folder {tmp_path}/nothing$"):
        parse_input(f"{tmp_path}/nothing").split()
    assert list(parse_input(str(tmp_path)).list_images()) == []
    text = parse_input(str(tmp_path)).nothing_found()
    assert text.startswith(
        f"no image in {tmp_path}: looked in {tmp_path} at any depth for .jpg .jpeg "
    )
    assert listed(f"{tmp_path}/no/*.jpg").num_rows == 0
    assert parse_input(f"{tmp_path}/no/*.jpg").nothing_found() == (
        f"nothing matches {tmp_path}/no/*.jpg: looked for *.jpg in {tmp_path}/no"
    )


@pytest.mark.parametrize(
    ("pieces", "workers", "groups"), [(1, 8, 1), (32, 1, 1), (32, 2, 2), (32, 5, 5), (200, 2, 4)]
)
def test_each_worker_gets_one_group_of_pieces_unless_it_is_too_large(pieces, workers, groups):
    names = [f"piece {number}" for number in range(pieces)]
    shared = group_pieces(names, workers)
    assert len(shared) == groups
    assert sorted(piece for group in shared for piece in group) == list(enumerate(names))
    assert max(map(len, shared)) - min(map(len, shared)) <= 1
