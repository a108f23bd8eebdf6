"""What the tests of several backbones share: photos, an output, and a count of the work."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import transforms.decode.pool
import transforms.work
from tests.helpers.runs import make_folder
from tests.helpers.several import SMALL, night


@pytest.fixture(scope="session")
def images(tmp_path_factory, photos: Path) -> Path:
    """Make small photos, a copy, a broken file, and a photo that networks read at two scales."""
    folder = make_folder(tmp_path_factory.mktemp("several") / "images", photos)
    shutil.copy(folder / "chelsea.jpg", folder / "chelsea-copy.jpg")
    (folder / "broken.jpg").write_bytes(b"not an image")
    with Image.open(photos / "hubble_deep_field.jpg") as image:
        image.convert("RGB").resize((1400, 1200)).save(folder / "large.jpg")
        image.convert("RGB").resize((500, 300)).save(folder / "flat.png")
    return folder


@pytest.fixture(scope="session")
def base(images: Path, tmp_path_factory) -> Path:
    """Return the output of one run with both backbones."""
    output = tmp_path_factory.mktemp("base") / "out"
    both = night(images, output, SMALL)
    assert [(each.table, each.state, each.embedded, each.reused, each.failed) for each in both] == [
        ("", "published", 8, 1, 1),
        ("MobileNetV3Small", "published", 8, 1, 1),
    ]
    return output


@pytest.fixture
def own(images: Path, base: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copy the images and the output; the copies of the images keep their names for the table."""
    # The tables hold absolute paths, so the images are changed in their place and restored.
    kept = tmp_path / "kept"
    shutil.copytree(images, kept, copy_function=shutil.copy2)
    yield images, Path(shutil.copytree(base, tmp_path / "out"))
    shutil.rmtree(images)
    shutil.copytree(kept, images, copy_function=shutil.copy2)


@pytest.fixture
def seen(monkeypatch):
    """Count the decodings, and the images that went through each network, by vector length."""
    counts = Counter()
    decode, embed = transforms.decode.pool.decode, transforms.work.embed

    def count_decoded(data, policy, size):
        counts["decoded"] += 1
        return decode(data, policy, size)

    def count_embedded(engine, pixels):
        counts[engine.model.dimension] += len(pixels)
        return embed(engine, pixels)

    monkeypatch.setattr(transforms.decode.pool, "decode", count_decoded)
    monkeypatch.setattr(transforms.work, "embed", count_embedded)
    return counts
