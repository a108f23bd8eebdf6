"""What the tests of maintenance and verification share: one real output of two nights, copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import make_folder


@pytest.fixture(scope="session")
def two_nights(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with ``images`` and ``out``: six images in three parts and a broken one, then a new image."""
    from pipeline import Config, extract

    root = tmp_path_factory.mktemp("nights")
    images = make_folder(root / "images", photos)
    (images / "broken.jpg").write_bytes(b"no image")
    night = Config(inputs=(str(images),), output=str(root / "out"), shard_size=3, max_failure_rate=1)
    extract(night)
    make_folder(images / "new", photos, "cell")
    extract(night)
    return root


@pytest.fixture
def output(two_nights: Path, tmp_path: Path) -> Path:
    """A copy of the output of both nights."""
    return shutil.copytree(two_nights / "out", tmp_path / "out")


@pytest.fixture
def images(two_nights: Path) -> Path:
    """The images that ``output`` was made of; for reading only."""
    return two_nights / "images"
