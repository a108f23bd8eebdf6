"""A full disk under the output: exit code 1, one line, nothing lost, and the next start resumes."""

import os
import shutil
import subprocess

import pytest

import pipeline
from pipeline.cli import main
from pipeline.maintenance.verify import verify
from tests.helpers.outputs import FORTNIGHT, later
from tests.helpers.runs import read_features


@pytest.fixture
def disk(tmp_path):
    """Mount a file system of 60 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(words, check=False, capture_output=True).returncode
    ):
        pytest.skip(
            "no file system can be mounted here: that takes root, and a container with the right "
            "to it"
        )
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk, kilobytes):
    """Fill the disk up to so much free room."""
    file = disk / "fill"
    file.touch()
    room = os.statvfs(disk)
    file.write_bytes(bytes(room.f_bavail * room.f_frsize - 1024 * kilobytes))
    return file


def lines(capsys):
    """Return what was printed, without the counts of listing and progress."""
    return [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("image-features: ")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_full_disk_stops_the_night_with_one_line_and_the_same_command_goes_on(
    disk, folder, run, capsys, first
):
    """It is full at the listing, network, part, receipt or commit, in either night."""
    output = disk / "out"
    if not first:
        run(folder, output)
        (folder / "coffee.jpg").write_bytes((folder / "camera.jpg").read_bytes() + b" ")
        (folder / "broken.jpg").write_bytes(b"no image")
    before = shutil.copytree(output, disk.parent / "before") if not first else None
    command = ["extract", "--input", str(folder), "--output", str(output), "--shard-size", "3",
               "--max-failure-rate", "1"]  # fmt: skip
    for kilobytes in (0, 1000) if first else (4, 24, 32, 64):
        shutil.rmtree(output, ignore_errors=True)
        if before:
            shutil.copytree(before, output)
        full = fill(disk, kilobytes)
        capsys.readouterr()
        code, said = main(command), lines(capsys)
        full.unlink()
        assert code == 1, kilobytes
        assert len(said) == 1
        assert f" {output}/" in said[0]
        assert "No space left on device" in said[0]
        assert "; make room there" in said[0] or "cannot commit to" in said[0]
        assert "un the same command again" in said[0]
        assert not list(output.rglob(".tmp-*"))
        if before:
            assert read_features(output).equals(read_features(before))
        assert main(command) == 0
        assert verify(str(output)).clean
        assert len(read_features(output)) == 6


def test_vacuum_makes_room_on_a_full_disk(disk, folder, run):
    output = disk / "out"
    run(folder, output)
    run(folder, output, rebuild=True)
    fill(disk, 0)
    freed = pipeline.vacuum(output, FORTNIGHT, now=later())
    assert freed.garbage
    assert not list((output / "announced").iterdir())
    assert not pipeline.vacuum(output, FORTNIGHT, now=later()).garbage
    assert verify(str(output)).clean


COMMANDS = {
    "index": "index {out}",
    "duplicates": "duplicates {out}",
    "duplicates --html": "duplicates {out} --html {disk}/page.html",
    "search": "search {out} --image {photo} --html {disk}/page.html",
    "report": "report {out} --html {disk}/page.html",
    "trace": "trace {photo} --save {disk}/seen",
    "lance": "export {out} --to lance --dest {disk}/photos.lance",
    **{
        to: f"export {{out}} --to {to} --dest {{disk}}/dest"
        for to in ("npy", "parquet", "faiss", "projector", "vertex")
    },
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_so_in_one_line_and_works_when_there_is_room(
    name, disk, folder, run, capsys
):
    output = disk / "out"
    run(folder, output)
    words = COMMANDS[name].format(out=output, disk=disk, photo=folder / "coffee.jpg").split()
    full = fill(disk, 0)
    capsys.readouterr()
    code, said = main(words), lines(capsys)
    full.unlink()
    assert code in (1, 2), said
    assert len(said) == 1, said
    assert "No space left on device" in said[0]
    assert "make room there" in said[0] or "cannot commit to" in said[0]
    assert main(words) == 0
    assert verify(str(output)).clean
    assert not list(disk.rglob(".tmp-*"))
