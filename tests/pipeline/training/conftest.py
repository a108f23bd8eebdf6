"""A task that a head can learn: an output of crops of six photos, in a folder for each photo."""

from pathlib import Path

import pytest

from tests.helpers.crops import make_crops

PHOTOS = "chelsea coffee camera astronaut rocket motorcycle_left"


@pytest.fixture(scope="session")
def crops_output(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Extract 300 crops once; for reading only. They lie beside it, in ``crops``."""
    from pipeline import Config, extract

    root = tmp_path_factory.mktemp("head")
    make_crops(root / "crops", photos, PHOTOS, 50, 224)
    extract(Config(inputs=(str(root / "crops"),), output=str(root / "out"), shard_size=64))
    return root / "out"
