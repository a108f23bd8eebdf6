"""Share what tests on real engines need: 200 images, their table and a Dask cluster.

Use as a pytest plugin. All that is started here is on a leash: it ends with the test run, however
that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.images import PHOTOS, crop, load_photo
from tests.helpers.runs import read_features, vectors

ROOT = Path(__file__).parents[2]
SHARDS = 8
_ON_LEASH = (
    "import os, sys; from leash import on_leash; on_leash(); os.execv(sys.argv[1], sys.argv[1:])"
)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of the tests, with this Python first on the PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": "", **more}


def on_leash(*words: object, **options: object) -> subprocess.Popen[str]:
    """Start a Python program that ends with this process."""
    command = [sys.executable, "-c", _ON_LEASH, sys.executable, "-m", *map(str, words)]
    return subprocess.Popen(
        command, env=environment(PYTHONPATH=f"{ROOT}/launch"), text=True, **options
    )  # type: ignore[call-overload]


def extract(images: Path, output: Path, *words: object, **options: object) -> subprocess.Popen[str]:
    """Start the command in the project's folder, without a leash: it must clean up by itself."""
    common = ["--input", images, "--output", output, "--shard-size", 200 // SHARDS]
    command = [sys.executable, "-m", "pipeline.cli", "extract", *map(str, [*words, *common])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, cwd=ROOT, text=True, **{"env": environment(), **pipes, **options}
    )  # type: ignore[call-overload]


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the output of a command that must succeed."""
    try:
        out, error = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 0, error
    return out, error


def until(condition: Callable[[], object], seconds: float = 100) -> None:
    """Wait for a condition; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.01)


def receipts(output: Path) -> int:
    return len(list(output.glob("runs/*/receipts/*.json")))


def same_table(output: Path, expected: pa.Table) -> bool:
    """Tell whether the rows are the same, and the vectors within 1e-5."""
    found = read_features(output)
    numbers = ["embedding", "score", "labels", "run_id", "extracted_at"]
    assert found.drop_columns(numbers).equals(expected.drop_columns(numbers))
    assert found["labels"].to_pylist()[0][0].keys() == expected["labels"].to_pylist()[0][0].keys()
    return bool(np.abs(vectors(found) - vectors(expected)).max() <= 1e-5)


@pytest.fixture(scope="session")
def two_hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of 200 different small photos."""
    folder = tmp_path_factory.mktemp("two-hundred")
    photos = [load_photo(name) for name in PHOTOS]
    for number in range(200):
        (folder / f"{number:03d}.jpg").write_bytes(crop(photos, number, (256, 192)))
    return folder


@pytest.fixture(scope="session")
def expected(two_hundred: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Return the table that a run without a runner makes of them."""
    from pipeline import Config
    from pipeline import extract as run

    output = tmp_path_factory.mktemp("expected")
    run(Config((str(two_hundred),), str(output), shard_size=200 // SHARDS))
    return read_features(output)


class Dask:
    """A scheduler, with workers that start and stop."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.workers = folder, list[subprocess.Popen[str]]()
        note = folder / "scheduler.json"
        words = [
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            note,
        ]
        self._scheduler = self._start("scheduler", *words)
        from distributed import Client

        until(note.exists)
        self.client = Client(scheduler_file=str(note), set_as_default=False)
        self.address = str(self.client.scheduler.address)

    def _start(self, name: str, *words: object) -> subprocess.Popen[str]:
        with (self._folder / f"{name}.log").open("w") as log:
            return on_leash("dask", *words, stdout=log, stderr=log)

    def add_workers(self, count: int) -> None:
        for _ in range(count):
            name = f"worker-{len(self.workers)}"
            words = [
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
                "--local-directory",
                self._folder / name,
            ]
            self.workers.append(self._start(name, "worker", self.address, *words))
        self.client.wait_for_workers(
            sum(worker.poll() is None for worker in self.workers), timeout=60
        )

    def close(self) -> None:
        self.client.close()
        for process in [*self.workers, self._scheduler]:
            process.kill()
            process.wait()


@pytest.fixture
def dask_scheduler(tmp_path: Path) -> Iterator[Dask]:
    """Start a Dask cluster without workers."""
    cluster = Dask(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def _dask_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    cluster = Dask(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.close()


@pytest.fixture
def dask_cluster(_dask_of_the_session: Dask) -> Dask:
    """Return a Dask cluster with two workers of one thread each."""
    alive = sum(worker.poll() is None for worker in _dask_of_the_session.workers)
    _dask_of_the_session.add_workers(2 - alive)
    return _dask_of_the_session
