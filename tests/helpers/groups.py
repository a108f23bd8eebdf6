"""Make an output whose photos have near-duplicates, and read the groups that were found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable
from PIL import Image

import pipeline
from tests.helpers.runs import make_folder
from transforms.records import GROUPS_SCHEMA

# The groups of ``changed_photos``.
EXPECTED = [
    ["chelsea", "chelsea-40", "chelsea-small"],
    ["coffee", "coffee-copy"],
    ["rocket", "rocket-mirror"],
]


def change(images: Path) -> None:
    """Make near-duplicates of the photos, one of each kind."""
    with Image.open(images / "chelsea.jpg") as photo:
        photo.save(images / "chelsea-40.jpg", quality=40)
        photo.resize((150, 100)).save(images / "chelsea-small.png")
    with Image.open(images / "rocket.jpg") as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "rocket-mirror.png")
    shutil.copy(images / "coffee.jpg", images / "coffee-copy.jpg")


@pytest.fixture(scope="session")
def changed_photos(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Make ``images`` and ``out``: ten images of six photos."""
    root = tmp_path_factory.mktemp("duplicates")
    change(make_folder(root / "images", photos))
    pipeline.extract(config(root))
    return root


@pytest.fixture
def root(changed_photos: Path, tmp_path: Path) -> Path:
    """Copy ``out``; its rows name the images of ``changed_photos``, which stay there."""
    shutil.copytree(changed_photos / "out", tmp_path / "out")
    return tmp_path


def config(root: Path) -> pipeline.Config:
    return pipeline.Config(inputs=(str(root / "images"),), output=str(root / "out"))


def groups_of(output: Path | str, table: str = "duplicates") -> list[list[str]]:
    """Return the names of the images of each group."""
    rows = DeltaTable(f"{output}/{table}").to_pyarrow_table()
    assert rows.schema.names == GROUPS_SCHEMA.names
    found: dict[str, set[str]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["group"], set()).add(Path(row["uri"]).stem)
    return sorted(map(sorted, found.values()))
