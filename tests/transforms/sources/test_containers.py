"""An input that names containers lists their members, on local disk and in a bucket."""

import io
import tarfile

import pyarrow as pa
import pytest

from tests.helpers.containers import PHOTOS, make_tar
from tests.transforms.containers.test_read import make
from transforms.containers.bytes import LocalFile
from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.file_names import Ignored
from transforms.sources import parse_input
from transforms.storage import open_storage
from transforms.storage.bucket import Bucket


@pytest.fixture(params=["file", "object"])
def place(request, tmp_path):
    """A function that writes a file below a base, and the base."""
    if request.param == "file":

        def put(name, data):
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return put, str(tmp_path / "in")
    s3 = request.getfixturevalue("s3")
    return s3.put, s3.url


@pytest.fixture
def tar(tmp_path):
    return make_tar(tmp_path / "made.tar").read_bytes()


def listed(text, ignored=None):
    batches = [
        batch
        for piece in parse_input(text).split()
        for batch in piece.list_images(ignored if ignored is not None else Ignored())
    ]
    return [uri for batch in batches for uri in batch["uri"].to_pylist()]


def inside(base, *names):
    return [f"{base}/{name}::{photo}" for name in names for photo in PHOTOS]


def test_one_container(place, tar):
    put, base = place
    put("a.tar", tar)
    assert listed(f"{base}/a.tar") == inside(base, "a.tar")


def test_a_glob_and_a_range(place, tar):
    put, base = place
    for number in range(8, 13):
        put(f"x/{number:02d}.tar", tar)
    put("x/notes.txt", b"no container")
    names = [f"x/{number:02d}.tar" for number in range(9, 12)]
    assert listed(f"{base}/**/*.tar") == inside(base, *(f"x/{n:02d}.tar" for n in range(8, 13)))
    assert listed(f"{base}/x/{{09..11}}.tar") == inside(base, *names)


def test_each_container_is_a_piece(place, tar):
    put, base = place
    for number in range(3):
        put(f"{number}.tar", tar)
    assert len(parse_input(f"{base}/{{0..2}}.tar").split()) == 3


def test_a_container_of_a_range_that_is_missing_stops_the_run(place, tar):
    """Its images would look removed."""
    put, base = place
    put("0.tar", tar)
    with pytest.raises(UserError, match=r"1\.tar is not there"):
        listed(f"{base}/{{0..1}}.tar")


def test_a_container_that_is_missing_stops_the_run(place, tar):
    put, base = place
    put("0.tar/below.jpg", b"x")
    assert listed(f"{base}/0.tar") == [f"{base}/0.tar/below.jpg"]
    with pytest.raises(UserError, match=r"1\.tar"):
        listed(f"{base}/1.tar")


def test_a_range_of_images(place):
    put, base = place
    put("0.jpg", b"x")
    assert listed(f"{base}/{{0..1}}.jpg") == [f"{base}/0.jpg", f"{base}/1.jpg"]


def test_the_content_decides_and_not_the_name(place, tar):
    put, base = place
    put("photos", tar)
    put("photo.tar", PHOTOS["a.jpg"])
    assert listed(f"{base}/photos") == inside(base, "photos")
    assert listed(f"{base}/photo.tar") == [f"{base}/photo.tar"]


def test_a_file_whose_name_is_that_of_an_image_is_one(place, tar):
    put, base = place
    put("a.jpg", tar)
    assert listed(f"{base}/a.jpg") == [f"{base}/a.jpg"]


def test_a_folder_counts_its_containers_and_lists_its_loose_images(place, tar):
    put, base = place
    for name in ("a.tar", "b.tgz", "c.zip", "d.tfrecord", "train-00000-of-00002", "e.parquet"):
        put(f"x/{name}", tar)
    put("x/loose.jpg", b"x")
    put("x/other.txt", b"x")
    ignored = Ignored()
    assert listed(f"{base}/x", ignored) == [f"{base}/x/loose.jpg"]
    assert (ignored.containers, ignored.other) == (6, 1)


def test_a_name_with_braces_that_exists_is_no_range(tmp_path, tar):
    (tmp_path / "{0..1}.tar").write_bytes(tar)
    assert listed(f"{tmp_path}/{{0..1}}.tar") == inside(tmp_path, "{0..1}.tar")


def test_a_folder_named_like_a_container(tmp_path, tar):
    (tmp_path / "0.tar").write_bytes(tar)
    (tmp_path / "1.tar").mkdir()
    (tmp_path / "1.tar" / "x.jpg").write_bytes(b"x")
    assert listed(f"{tmp_path}/1.tar") == [f"{tmp_path}/1.tar/x.jpg"]
    assert listed(f"{tmp_path}/?.tar") == inside(tmp_path, "0.tar")
    with pytest.raises(UserError, match=r"1\.tar is not a file"):
        listed(f"{tmp_path}/{{0..1}}.tar")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "tfrecord", "parquet"])
def test_every_kind_is_listed_from_a_bucket(kind, tmp_path, s3):
    s3.put("c", make(kind, tmp_path / "made").read_bytes())
    assert len(listed(f"{s3.url}/c")) == 4


def test_members_with_few_names_are_few_images(tmp_path):
    """A member is listed once, whatever its neighbours are named."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(300):
            info = tarfile.TarInfo(f"{number % 3}.jpg")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    ignored = Ignored()
    assert len(listed(f"{tmp_path}/a.tar", ignored)) == 3
    assert ignored.repeated == 297


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "tfrecord", "parquet"])
def test_no_byte_of_an_unchanged_container_is_read(kind, place, tmp_path, monkeypatch):
    put, base = place
    put("c", make(kind, tmp_path / "made").read_bytes())
    indexes = Indexes(open_storage(str(tmp_path / "out")))
    source = parse_input(f"{base}/c")
    first = pa.Table.from_batches(source.list_images(Ignored(), indexes))

    def refused(*_):
        pytest.fail("the container was read")

    monkeypatch.setattr(LocalFile, "read", refused)
    monkeypatch.setattr(Bucket, "get_range", refused)
    assert pa.Table.from_batches(source.list_images(Ignored(), indexes)).equals(first)


def test_a_look_at_the_kind_of_a_large_object_asks_for_its_first_piece_only(s3, monkeypatch):
    monkeypatch.setattr("transforms.containers.bytes._PIECE", 1000)
    s3.put("large", b"x" * 100_000)
    asked = []
    get = Bucket.get_range
    monkeypatch.setattr(Bucket, "get_range", lambda *args: asked.append(args[2]) or get(*args))
    assert listed(f"{s3.url}/large") == [f"{s3.url}/large"]
    assert asked == [0]
