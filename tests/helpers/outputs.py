"""Share one real output of two nights, copied for each test of maintenance and verification."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.helpers.runs import make_folder, read_errors, read_features

FORTNIGHT = timedelta(days=14)


def later(days=30):
    return datetime.now(UTC) + timedelta(days=days)


def parts(output, table="features"):
    return sorted(path.name for path in (Path(output) / table).glob("part-*.parquet"))


def live(output, table="features"):
    return sorted(uri.rsplit("/", 1)[-1] for uri in DeltaTable(f"{output}/{table}").file_uris())


def state(output):
    """Return everything that readers see, whatever the order of the columns."""
    return read_features(output), read_errors(output)


def break_off(night, monkeypatch):
    """Start a run that ends at its commit, as if it had been killed there."""

    def fail(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.run.publish", fail)
        with pytest.raises(OSError, match="No space left"):
            night()


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Make ``images`` and ``out``: six images in three parts and a broken one, then a new image."""
    from pipeline import Config, extract

    root = tmp_path_factory.mktemp("nights")
    images = make_folder(root / "images", photos)
    (images / "broken.jpg").write_bytes(b"no image")
    night = Config(
        inputs=(str(images),), output=str(root / "out"), shard_size=3, max_failure_rate=1
    )
    extract(night)
    make_folder(images / "new", photos, "cell")
    extract(night)
    return root


@pytest.fixture
def output(two_nights: Path, tmp_path: Path) -> Path:
    """Copy the output of both nights."""
    return shutil.copytree(two_nights / "out", tmp_path / "out")


@pytest.fixture
def images(two_nights: Path) -> Path:
    """Return the images that ``output`` was made of; for reading only."""
    return two_nights / "images"


@pytest.fixture
def own_images(images, tmp_path):
    """Make images that a test may change, with an output of their own from one night."""
    return shutil.copytree(images, tmp_path / "images")


@pytest.fixture
def night(run, own_images, tmp_path):
    """Return a function that runs over the test's own images."""
    return lambda **options: run(
        own_images, tmp_path / "out", **{"max_failure_rate": 1, "shard_size": 3, **options}
    )
