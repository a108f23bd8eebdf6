"""SIGKILL at any moment, any number of times, ends in the table of a night without a crash.

``IMAGE_FEATURES_KILLS`` sets how many kills come in a row (default 3), ``IMAGE_FEATURES_SEED``
where they fall.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline.cli import main
from tests.helpers.runs import make_folder, read_features
from transforms.storage import open_storage

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("IMAGE_FEATURES_KILLS", "3"))
SEED = int(os.environ.get("IMAGE_FEATURES_SEED", "0"))


class Night:
    """A second night with changes of every kind, to be run repeatedly from the same first night."""

    def __init__(self, base: Path, photos: Path) -> None:
        self.folder, self.first, self.output = base / "images", base / "first", base / "out"
        self.words = [
            "extract",
            "--input",
            self.folder,
            "--output",
            self.output,
            "--shard-size",
            "3",
        ]
        self.words += ["--max-failure-rate", "0.5"]
        make_folder(self.folder, photos)
        with Image.open(photos / "coffee.png") as image:
            for number in range(8):
                image.crop((number * 20, 0, number * 20 + 250, 250)).save(
                    self.folder / f"crop-{number}.png"
                )
        for name in ("broken", "mended"):
            (self.folder / f"{name}.jpg").write_bytes(b"not an image")
        self.finish()
        self.output.rename(self.first)
        self._change(photos)
        self.reset()
        begin = time.monotonic()
        done = subprocess.run(self._command("", 0), capture_output=True, text=True, timeout=200)
        classes = "listed 22 = new 8 + changed 2 + unchanged 11 + retried 0 + still failed 1"
        assert f"{classes}; removed 2; embedded 8, reused 1, failed 1" in done.stdout, (
            done.stdout + done.stderr
        )
        self.seconds = time.monotonic() - begin
        self.points = int(done.stdout.split("points ")[1])
        self.expected = self.tables()

    def _change(self, photos: Path) -> None:
        """Add six crops, a copy and a broken image; change one and fix one; remove two."""
        with Image.open(photos / "astronaut.png") as image:
            for number in range(6):
                image.crop((number * 20, 0, number * 20 + 250, 250)).save(
                    self.folder / f"new-{number}.png"
                )
            image.convert("RGB").save(self.folder / "crop-3.png")
            image.crop((100, 0, 400, 300)).save(self.folder / "mended.jpg")
        shutil.copy(self.folder / "chelsea.jpg", self.folder / "zz-copy.jpg")
        (self.folder / "broken-too.jpg").write_bytes(b"no image either")
        for name in ("coffee.jpg", "crop-5.png"):
            (self.folder / name).unlink()

    def reset(self) -> None:
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.copytree(self.first, self.output)

    def _command(self, where: str, count: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tests.helpers.killed",
            where,
            str(count),
            *map(str, self.words),
        ]

    def start(self, where: str = "", count: int = 0) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self._command(where, count), **quiet)

    def finish(self) -> None:
        """Run the command to its end, in this process: a new one takes seconds to import."""
        assert main([*map(str, self.words)]) == 0

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Return what readers see, except the times and the ids of runs."""
        features = read_features(self.output).drop_columns(["run_id", "extracted_at"])
        errors = DeltaTable(self.output / "errors").to_pyarrow_table().sort_by("uri")
        return features, errors.drop_columns(["run_id", "first_failed_at"])

    def is_as_it_should_be(self) -> bool:
        return all(
            found.equals(wanted) for found, wanted in zip(self.tables(), self.expected, strict=True)
        )


@pytest.fixture(scope="module")
def night(tmp_path_factory, photos):
    return Night(tmp_path_factory.mktemp("crash"), photos)


def test_killed_at_many_random_points_a_night_ends_as_if_undisturbed(night):
    chance = random.Random(SEED)
    night.reset()
    kills = nights = 0
    while kills < KILLS:
        # Kill the run at one of its own points, or at any moment.
        if chance.random() < 0.6:
            process = night.start("", chance.randint(1, night.points // 2))
            code = process.wait(timeout=200)
        else:
            process = night.start()
            try:
                code = process.wait(timeout=chance.uniform(0.2, night.seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        kills += code == -signal.SIGKILL
        # The run may have ended before it could be killed.
        if code == 0:
            assert night.is_as_it_should_be()
            night.reset()
            nights += 1
        else:
            assert code == -signal.SIGKILL
            before = read_features(night.output).num_rows
            # Readers see last night's table or tonight's, and nothing between them.
            assert before in (14, 20)
    night.finish()
    assert night.is_as_it_should_be()
    assert main(["verify", str(night.output)]) == 0
    print(f"{kills} kills over {nights + 1} nights")


@pytest.mark.parametrize(
    ("where", "count"),
    [
        pytest.param("/plan/shard-", 3, id="in the plan"),
        pytest.param("after write features/part-", 2, id="between part and receipt"),
        pytest.param("before commit errors", 1, id="between parts and commit"),
        pytest.param("after commit errors", 1, id="between the commits"),
        pytest.param("after commit features", 1, id="before the note"),
    ],
)
def test_killed_at_a_point_that_matters(night, where, count):
    night.reset()
    assert night.start(where, count).wait(timeout=200) == -signal.SIGKILL
    committed = where == "after commit features"
    assert read_features(night.output).num_rows == (20 if committed else 14)
    night.finish()
    assert night.is_as_it_should_be()
    # The run committed once, not twice.
    assert DeltaTable(night.output / "features").version() == 1
    # There is the first night's run, and the one that was resumed.
    assert len(list(night.output.glob("runs/*/run.json"))) == 2


def test_killed_again_and_again_in_a_bucket(s3, folder, tmp_path, run):
    """Each start gets a step further than the one before; the last one has a folder run's table."""
    (folder / "broken.jpg").write_bytes(b"not an image")
    for path in folder.iterdir():
        s3.put(f"photos/{path.name}", path.read_bytes())
    run(folder, max_failure_rate=0.5)
    words = [
        "extract",
        "--input",
        f"{s3.url}/photos",
        "--output",
        f"{s3.url}/out",
        "--shard-size",
        "3",
    ]

    def start(where="", count=0):
        command = [
            sys.executable,
            "-m",
            "tests.helpers.killed",
            where,
            str(count),
            *words,
            "--max-failure-rate",
            "0.5",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=200)

    for where in ["after write runs/", "after write features/part-", "before commit features"]:
        assert start(where, 1).returncode == -signal.SIGKILL
        assert not s3.under("out/features/_delta_log/")
    assert "embedded 6, reused 0, failed 1" in start().stdout
    # Later starts resumed the run.
    assert len([key for key in s3.under("out/runs/") if key.endswith("/run.json")]) == 1
    url = f"{s3.url}/out/features"
    rows = (
        DeltaTable(url, storage_options=open_storage(url).delta_options)
        .to_pyarrow_table()
        .sort_by("uri")
    )
    local = read_features(tmp_path / "out")
    assert [Path(uri).name for uri in rows["uri"].to_pylist()] == [
        Path(uri).name for uri in local["uri"].to_pylist()
    ]
    assert rows["embedding"].to_pylist() == local["embedding"].to_pylist()
    assert main(["verify", f"{s3.url}/out"]) == 0
