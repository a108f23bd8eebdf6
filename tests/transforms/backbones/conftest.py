"""Photos and labels for the small networks of ``tests.helpers.nets``."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.nets import LABELS, SIZE, pixels


@pytest.fixture(scope="module")
def images(photos: Path) -> np.ndarray:
    """Photos as uint8 [N, SIZE, SIZE, 3]."""
    return pixels(photos, SIZE)


@pytest.fixture
def labels(tmp_path: Path) -> str:
    """The path of a file with a label for each class."""
    (tmp_path / "labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    return str(tmp_path / "labels.txt")
