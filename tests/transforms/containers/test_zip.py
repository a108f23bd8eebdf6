"""The images of a zip are those that its directory names; a bad member fails alone."""

import struct
import zipfile
import zlib

import pytest

from tests.helpers.containers import PHOTOS, members_of, photo, problems_of, read_all
from transforms.file_names import Ignored
from transforms.read import ReadPolicy


def make_zip(path, members=PHOTOS, method=zipfile.ZIP_STORED, comment=b""):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = comment
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_exactly(tmp_path, method):
    members = {**PHOTOS, "empty.jpg": b"", "text.jpg": b"text" * 10_000}
    assert read_all(make_zip(tmp_path / "a.zip", members, method)) == members


def test_a_zip64_with_unknown_sizes(tmp_path):
    """A writer to a pipe puts the sizes after the data, and 64-bit sizes into extra fields."""

    class Pipe:
        def __init__(self, file):
            self.write, self.flush = file.write, file.flush

    with (
        (tmp_path / "a.zip").open("wb") as file,
        zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, data in PHOTOS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert read_all(tmp_path / "a.zip") == PHOTOS


def test_over_65535_members(tmp_path):
    names = [f"{number}.jpg" for number in range(65_600)]
    path = make_zip(tmp_path / "a.zip", dict.fromkeys(names, b""))
    assert len(members_of(path)) == len(names)


def test_a_comment_and_bytes_before_the_zip(tmp_path):
    path = make_zip(tmp_path / "a.zip", comment=b"a comment" * 1000)
    assert read_all(path) == PHOTOS
    inner = make_zip(tmp_path / "b.zip").read_bytes()
    path.write_bytes(b"PK\3\4" + b"x" * 1000 + inner)
    assert read_all(path) == PHOTOS


def test_an_empty_zip(tmp_path):
    assert read_all(make_zip(tmp_path / "a.zip", {})) == {}


def test_other_methods_and_encrypted_members_fail_alone(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", PHOTOS["a.jpg"])
        archive.writestr("bz.jpg", b"x" * 100, zipfile.ZIP_BZIP2)
        archive.writestr("lzma.jpg", b"x" * 100, zipfile.ZIP_LZMA)
        archive.writestr("secret.jpg", b"x" * 100)
        archive.writestr("z.jpg", PHOTOS["b.jpg"])
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"secret.jpg"))
    data[entry + 8] |= 1
    path.write_bytes(data)
    found = read_all(path)
    assert (found.pop("a.jpg"), found.pop("z.jpg")) == (PHOTOS["a.jpg"], PHOTOS["b.jpg"])
    assert found == dict.fromkeys(("bz.jpg", "lzma.jpg", "secret.jpg"), "unsupported")
    problems = problems_of(path)
    assert problems["secret.jpg"] == "the member is encrypted"
    assert "compressed by method 14" in problems["lzma.jpg"]


def test_links_folders_and_hidden_files_are_no_images(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("folder.jpg")
        archive.writestr("__MACOSX/._a.jpg", b"x")
        archive.writestr("a.jpg", b"a")
        archive.writestr("a.txt", b"a")
    ignored = Ignored()
    assert len(members_of(path, ignored=ignored)) == 1
    assert (ignored.links, ignored.hidden, ignored.other) == (1, 1, 1)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_several_members_with_one_name_counts(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("a.jpg", b"first"), ("b.jpg", b"b"), ("a.jpg", b"last")):
            archive.writestr(name, data)
    ignored = Ignored()
    assert len(members_of(path, ignored=ignored)) == 2
    assert ignored.repeated == 1
    assert read_all(path) == {"b.jpg": b"b", "a.jpg": b"last"}


def test_odd_names_are_names_and_nothing_else(tmp_path):
    odd = ["../../a.jpg", "/etc/a.jpg", "a::b.jpg", "a\nb\x1b[31m.jpg", "日本.jpg", "ÿ.jpg"]
    members = {name: photo(seed) for seed, name in enumerate(odd)}
    assert read_all(make_zip(tmp_path / "a.zip", members)) == members


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_with_a_wrong_crc_fails_alone(tmp_path, method):
    path = make_zip(tmp_path / "a.zip", {**PHOTOS, "e.jpg": b"e" * 3000}, method)
    data = bytearray(path.read_bytes())
    data[data.index(b"b.jpg") + 5 + 700] ^= 0xFF
    path.write_bytes(data)
    found = read_all(path)
    assert found.pop("b.jpg") == "corrupt"
    assert found == {name: PHOTOS.get(name, b"e" * 3000) for name in found}
    assert len(found) == 4


def test_a_zip_that_is_cut_has_no_directory(tmp_path):
    path = make_zip(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:-30])
    assert read_all(path) == {"": "corrupt"}
    assert problems_of(path)[""].startswith("the zip's directory cannot be read: ")


def test_a_bomb_is_refused_by_its_size_and_never_unpacked(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert read_all(path, policy=ReadPolicy(max_bytes=1 << 20)) == {"a.jpg": "too_large"}
    # One that lies about its size gives no more bytes than it says.
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2")
    data[entry + 24 : entry + 28] = struct.pack("<L", 1000)
    path.write_bytes(data)
    assert read_all(path) == {"a.jpg": "corrupt"}


def test_members_that_overlap_are_refused(tmp_path):
    """As those of a bomb whose members share one body."""
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"x" * 1000, "b.jpg": b"x" * 1000})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 1)
    data[second + 42 : second + 46] = struct.pack("<L", 10)
    path.write_bytes(data)
    assert set(read_all(path).values()) == {"corrupt"}
    assert "the member overlaps another one" in problems_of(path).values()


@pytest.mark.parametrize("field", ["size", "offset"])
def test_numbers_that_fit_into_no_table(tmp_path, field):
    """Zip64 has numbers up to 2**64; tables and files have 2**63."""
    name, data = b"a.jpg", PHOTOS["a.jpg"]
    huge = (1 << 64) - 1
    size, offset = (huge, 0) if field == "size" else (len(data), huge)
    crc = zlib.crc32(data)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, crc, len(data), len(data), 5, 0)
    extra = struct.pack("<2H2Q", 1, 16, size, offset)
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 0, crc, len(data), 0xFFFFFFFF, 5, len(extra), 0,
        0, 0, 0, 0xFFFFFFFF,
    )  # fmt: skip
    body = local + name + data
    directory = entry + name + extra
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(body), 0)
    (tmp_path / "a.zip").write_bytes(body + directory + end)
    (found,) = read_all(tmp_path / "a.zip").values()
    assert found == ("too_large" if field == "size" else "corrupt")


def test_a_directory_whose_offsets_lie_before_the_file(tmp_path):
    path = make_zip(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    directory = struct.unpack_from("<L", data, end + 16)[0]
    struct.pack_into("<L", data, end + 16, directory + 200)
    path.write_bytes(data)
    found = read_all(path)
    assert found["d.jpg"] in (PHOTOS["d.jpg"], "corrupt")
    assert set(map(type, found.values())) <= {str, bytes}
    assert found["a.jpg"] == "corrupt"
