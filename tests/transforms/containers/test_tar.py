"""The images of a tar are those that its own tools see, and damage costs only what follows."""

import io
import os
import shutil
import subprocess
import tarfile

import pytest
import webdataset

from tests.helpers.containers import PHOTOS, make_tar, members_of, photo, problems_of, read_all
from transforms.file_names import Ignored

FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
COMPRESSED = {"w": "tar", "w:gz": "tar.gz", "w:bz2": "tar.bz2"}


def add(tar, name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("mode", COMPRESSED)
@pytest.mark.parametrize("form", FORMS)
def test_members_are_read_exactly(tmp_path, form, mode):
    path = make_tar(tmp_path / "a.tar", mode=mode, form=FORMS[form])
    assert read_all(path) == PHOTOS


@pytest.mark.parametrize("form", FORMS)
def test_long_names(tmp_path, form):
    folder = "f" * 90 + "/" + "g" * 50
    long = folder + "/" + "x" * (90 if form == "ustar" else 400) + ".jpg"
    path = make_tar(tmp_path / "a.tar", {long: PHOTOS["a.jpg"], "b.jpg": b"b"}, form=FORMS[form])
    assert read_all(path) == {long: PHOTOS["a.jpg"], "b.jpg": b"b"}


def test_a_tar_of_webdataset(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for name, data in PHOTOS.items():
            key = name.removesuffix(".jpg")
            writer.write({"__key__": f"set/{key}", "jpg": data, "json": {"a": 1}, "cls": 7})
    ignored = Ignored()
    found = members_of(tmp_path / "a.tar", ignored=ignored)
    assert len(found) == len(PHOTOS)
    assert ignored.other == 2 * len(PHOTOS)
    assert read_all(tmp_path / "a.tar") == {f"set/{name}": data for name, data in PHOTOS.items()}


def test_float_times_and_fields_that_need_pax(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "a.jpg", b"a", mtime=1.5, uid=1 << 40, pax_headers={"comment": "ü\n4 x=\n" * 30})
        add(tar, "b.jpg", b"b", mtime=-1.25)
    assert read_all(tmp_path / "a.tar") == {"a.jpg": b"a", "b.jpg": b"b"}


def test_a_pax_header_holds_for_one_member_and_a_global_one_for_all(tmp_path):
    headers = {"comment": "all"}
    with tarfile.open(tmp_path / "a.tar", "w", pax_headers=headers) as tar:
        add(tar, "ü" * 200 + ".jpg", b"a")
        add(tar, "b.jpg", b"b")
    assert list(read_all(tmp_path / "a.tar").values()) == [b"a", b"b"]
    assert list(read_all(tmp_path / "a.tar"))[1] == "b.jpg"


def test_links_folders_and_devices_are_no_images(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "folder.jpg", type=tarfile.DIRTYPE)
        add(tar, "a.jpg", b"a")
        add(tar, "soft.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.jpg", type=tarfile.LNKTYPE, linkname="a.jpg")
        add(tar, "pipe.jpg", type=tarfile.FIFOTYPE)
        add(tar, "contiguous.jpg", b"c", type=tarfile.CONTTYPE)
        add(tar, "old.jpg", b"o", type=tarfile.AREGTYPE)
    ignored = Ignored()
    members_of(tmp_path / "a.tar", ignored=ignored)
    assert (ignored.links, ignored.other) == (2, 1)
    assert read_all(tmp_path / "a.tar") == {"a.jpg": b"a", "contiguous.jpg": b"c", "old.jpg": b"o"}


def test_a_hard_link_with_a_size_has_no_data(tmp_path):
    """Some writers give a link the size of its target; tarfile and GNU tar know that."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "a.jpg", PHOTOS["a.jpg"])
        link = tarfile.TarInfo("hard.jpg")
        link.type, link.linkname, link.size = tarfile.LNKTYPE, "a.jpg", len(PHOTOS["a.jpg"])
        tar.addfile(link)
        add(tar, "b.jpg", PHOTOS["b.jpg"])
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert len(tar.getmembers()) == 3
    assert read_all(tmp_path / "a.tar") == {name: PHOTOS[name] for name in ("a.jpg", "b.jpg")}


def test_a_member_of_over_8_gib(tmp_path):
    """Its size does not fit into octal digits. The file is sparse: it takes no room."""
    size = (8 << 30) + 5
    for form in ("gnu", "pax"):
        path = tmp_path / f"{form}.tar"
        info = tarfile.TarInfo("big.jpg")
        info.size = size
        head = info.tobuf(FORMS[form])
        tail = tarfile.TarInfo("b.jpg")
        tail.size = 1
        with path.open("wb") as file:
            file.write(head)
            file.seek(len(head) + -(-size // 512) * 512)
            file.write(tail.tobuf() + b"b" + bytes(511) + bytes(1024))
        big, small = members_of(path)
        assert (big.size, small.size) == (size, 1)
        assert read_all(path) == {"big.jpg": "too_large", "b.jpg": b"b"}


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_members_of_gnu_tar_are_ignored_and_the_next_one_is_read(tmp_path, form):
    with (tmp_path / "sparse.jpg").open("wb") as file:
        for place in range(40):
            file.seek(place << 20)
            file.write(b"x")
        file.truncate(50 << 20)
    (tmp_path / "z.jpg").write_bytes(b"z")
    words = ["tar", "-S", f"--format={form}", "-cf", "a.tar", "sparse.jpg", "z.jpg"]
    subprocess.run(words, cwd=tmp_path, check=True)
    ignored = Ignored()
    assert len(members_of(tmp_path / "a.tar", ignored=ignored)) == 1
    assert ignored.links == 1
    assert read_all(tmp_path / "a.tar") == {"z.jpg": b"z"}


def test_the_last_of_several_members_with_one_name_counts(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "a.jpg", b"first")
        add(tar, "b.jpg", b"b")
        add(tar, "a.jpg", b"last")
    ignored = Ignored()
    assert len(members_of(tmp_path / "a.tar", ignored=ignored)) == 2
    assert ignored.repeated == 1
    assert read_all(tmp_path / "a.tar") == {"b.jpg": b"b", "a.jpg": b"last"}


ODD = ["../../etc/a.jpg", "/etc/a.jpg", "a::b.jpg", "::.jpg", "a\nb\x1b[31m.jpg", "./c.jpg"]
ODD += ["C:\\a.jpg", "日本.jpg", " .jpg", "a/../b.jpg"]


def test_odd_names_are_names_and_nothing_else(tmp_path):
    members = {name: photo(seed) for seed, name in enumerate(ODD)}
    before = sorted(tmp_path.rglob("*"))
    path = make_tar(tmp_path / "a.tar", members)
    assert read_all(path) == members
    assert sorted(tmp_path.rglob("*")) == [*before, path]


def test_a_name_that_is_not_utf8(tmp_path):
    info = tarfile.TarInfo("\udcff.jpg")
    info.size = 1
    head = info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
    (tmp_path / "a.tar").write_bytes(head + b"a" + bytes(511) + bytes(1024))
    assert read_all(tmp_path / "a.tar") == {"\\xff.jpg": b"a"}


def test_hidden_members_are_ignored(tmp_path):
    names = ["./.hidden/a.jpg", ".b.jpg", "x/._c.jpg", "d.jpg"]
    path = make_tar(tmp_path / "a.tar", dict.fromkeys(names, b"x"))
    ignored = Ignored()
    assert [found.uri for found in members_of(path, ignored=ignored)] == [f"{path}::d.jpg"]
    assert ignored.hidden == 3


def test_the_content_tells_the_kind_and_not_the_name(tmp_path):
    path = make_tar(tmp_path / "photos.zip", mode="w:gz")
    assert read_all(path) == PHOTOS


def ends(path):
    """Return the first byte of each member's header, and of the end mark."""
    with tarfile.open(path) as tar:
        return [member.offset for member in tar.getmembers()] + [tar.offset]


def test_a_tar_that_is_cut_gives_the_members_before(tmp_path):
    whole = make_tar(tmp_path / "a.tar", form=tarfile.USTAR_FORMAT)
    data = whole.read_bytes()
    edges = ends(whole)
    cut = tmp_path / "cut.tar"
    for at, complete in [
        (edges[1], 1),
        (edges[1] + 100, 1),
        (edges[1] + 512, 1),
        (edges[1] + 600, 1),
        (edges[3], 3),
        (edges[4], 4),
        (edges[4] + 100, 4),
    ]:
        cut.write_bytes(data[:at])
        found = read_all(cut)
        assert found.pop("") == "truncated", at
        assert found == dict(list(PHOTOS.items())[:complete]), at
        assert "the tar ends" in problems_of(cut)[""]


def test_a_tar_without_padding_after_its_last_member_is_complete(tmp_path):
    data = make_tar(tmp_path / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: ends(tmp_path / "a.tar")[-1] + 512])
    assert read_all(tmp_path / "cut.tar") == PHOTOS


def test_a_damaged_header_ends_the_walk(tmp_path):
    path = make_tar(tmp_path / "a.tar", form=tarfile.USTAR_FORMAT)
    place = ends(path)[2]
    for damage in (b"\xff" * 512, bytes(512)):
        data = bytearray(make_tar(path, form=tarfile.USTAR_FORMAT).read_bytes())
        data[place : place + 512] = damage
        path.write_bytes(data)
        found = read_all(path)
        assert found.pop("") == "corrupt"
        assert list(found) == ["a.jpg", "b.jpg"]
        assert f"at byte {place:,}" in problems_of(path)[""]


def relabelled(size, kind=b"0", name="big.jpg"):
    """Return a header with a valid checksum that says any size."""
    info = tarfile.TarInfo(name)
    info.type = kind
    head = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    head[124:136] = size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize(
    ("size", "word"),
    [
        (b"77777777777\0", "truncated"),
        (b"\x80" + b"\xff" * 11, "truncated"),
        (b"\xff" * 12, "corrupt"),
        (b"-0000000001\0", "corrupt"),
        (b"99999999999\0", "corrupt"),
    ],
)
@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"g", b"S", b"5"])
def test_a_header_that_lies_about_its_size_costs_no_memory(tmp_path, size, word, kind):
    good = make_tar(tmp_path / "a.tar", {"a.jpg": b"a"}).read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(good + relabelled(size, kind) + bytes(2048))
    found = read_all(tmp_path / "a.tar")
    assert found["a.jpg"] == b"a"
    assert found[""] in (word, "corrupt")


def test_pax_headers_without_sense(tmp_path):
    good = make_tar(tmp_path / "a.tar", {"a.jpg": b"a"}).read_bytes()[:1024]
    for body in (
        b"x",
        b"5",
        b"0 a=b\n",
        b"-5 a=b\n",
        b"999999999999999999999 a=b\n",
        b"6 size=1\n",
    ):
        head = relabelled(b"%011o\0" % len(body), b"x")
        tail = make_tar(tmp_path / "b.tar", {"b.jpg": b"b"}).read_bytes()
        (tmp_path / "a.tar").write_bytes(good + head + body.ljust(512, b"\0") + tail)
        assert read_all(tmp_path / "a.tar")["a.jpg"] == b"a"
    body = b"19 size=9999999999x\n"
    head = relabelled(b"%011o\0" % len(body), b"x")
    (tmp_path / "a.tar").write_bytes(good + head + body.ljust(512, b"\0") + tail)
    assert read_all(tmp_path / "a.tar") == {"a.jpg": b"a", "": "corrupt"}


@pytest.mark.timeout(30)
def test_a_pax_header_of_many_records_takes_no_longer_than_its_bytes(tmp_path):
    """A copy of the rest for each record would take minutes."""
    record = b"6 a=b\n"
    body = record * ((1 << 20) // len(record))
    head = relabelled(b"%011o\0" % len(body), b"x")
    tail = make_tar(tmp_path / "b.tar", {"b.jpg": b"b"}).read_bytes()
    (tmp_path / "a.tar").write_bytes((head + body + bytes(-len(body) % 512)) * 5 + tail)
    assert read_all(tmp_path / "a.tar") == {"b.jpg": b"b"}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2"])
def test_a_compressed_tar_that_is_cut(tmp_path, mode):
    path = make_tar(tmp_path / "a.tgz", {f"{i}.jpg": os.urandom(300_000) for i in range(8)}, mode)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    found = read_all(path)
    assert found.pop("") == "corrupt"
    assert 1 <= len(found) < 8
    assert all(len(data) == 300_000 for data in found.values())
