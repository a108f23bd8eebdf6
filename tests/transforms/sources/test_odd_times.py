"""A time that the tables cannot hold, as some file servers give, never fails the run."""

import os
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from tests.helpers.runs import read_errors, read_features
from transforms.storage import open_storage
from transforms.times import known_times

ODD = {"year0": -62_135_596_801, "year10000": 253_402_300_800, "year30828": 910_670_515_199}
EVEN = {"year1": -62_135_596_800, "year1969": -1, "year9999": 253_402_300_799}


@pytest.fixture
def dated(folder):
    """Make images with odd and even times, in memory: few other file systems can store them."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no file system in memory")
    place = Path(tempfile.mkdtemp(dir="/dev/shm"))
    for (name, seconds), photo in zip(
        {**ODD, **EVEN}.items(), sorted(folder.iterdir()), strict=True
    ):
        shutil.copy(photo, place / f"{name}.jpg")
        os.utime(place / f"{name}.jpg", (seconds, seconds))
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("named", ["folder", "list"])
def test_an_image_of_an_odd_time_has_its_row_and_no_time(named, dated, run, tmp_path):
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in dated.iterdir()))
    source = dated if named == "folder" else f"list:{tmp_path / 'list'}"
    assert run(source).embedded == 6
    assert read_errors(tmp_path / "out") == []
    rows = read_features(tmp_path / "out")
    known = {
        Path(uri).stem: time.as_py()
        for uri, time in zip(rows["uri"].to_pylist(), rows["modified"], strict=True)
    }
    assert {name for name, time in known.items() if time is None} == set(ODD)
    assert [known[name].year for name in EVEN] == [1, 1969, 9999]
    assert run(source).unchanged == 6


def test_an_odd_time_does_not_stop_the_listing_of_an_output(dated):
    times = {entry.key: entry.modified for entry in open_storage(str(dated)).list()}
    assert {key.removesuffix(".jpg") for key, time in times.items() if time is None} == set(ODD)


def test_a_page_of_a_bucket_keeps_the_times_that_the_calendar_has():
    times = pa.array([*ODD.values(), None, *EVEN.values()], pa.timestamp("s", "UTC"))
    found = known_times(times)
    assert found.type == pa.timestamp("us", "UTC")
    assert found.is_valid().to_pylist() == [False] * 4 + [True] * 3
