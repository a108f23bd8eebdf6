"""Measure what each figure of drift sees, on real photos: ``python -m benchmarks.drift``.

Earlier images are crops of scikit-image's photos but five. Tonight's are other crops of the same
photos, with a share of crops of those five; or all changed, as by another camera or decoder.
"""

from __future__ import annotations

import io
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

import pipeline
from benchmarks.tables import sample_photos
from pipeline.reports.night.drift import Drift, Floats, measure
from pipeline.tables import Tables
from transforms.storage import open_storage

NEW = ("page", "phantom", "retina", "rocket", "text")
SHARES = (0.0, 0.02, 0.05, 0.1, 0.3)
ROWS, ROUNDS = 1_500, 4
_SIDE = 224
Change = Callable[[Image.Image], Image.Image]


def _brighter(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.2)


def _coarser(picture: Image.Image) -> Image.Image:
    """Scale down without smoothing, as a hasty decoder does."""
    small = picture.resize((_SIDE // 2, _SIDE // 2), Image.Resampling.NEAREST)
    return small.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _saved_again(picture: Image.Image) -> Image.Image:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=40)
    return Image.open(encoded)


CHANGES: dict[str, Change] = {
    "20 % brighter": _brighter,
    "scaled down without smoothing": _coarser,
    "saved as JPEG of quality 40": _saved_again,
}


def _vectors(folder: Path, name: str, photos: list[Image.Image], change: Change | None) -> Floats:
    """Embed crops of photos; the same name gives the same crops."""
    random = np.random.default_rng(len(photos))
    crops = folder / name
    crops.mkdir()
    for number in range(2 * ROWS):
        photo = photos[number % len(photos)]
        side = max(32, int(min(photo.size) * random.uniform(0.1, 0.6)))
        left, top = (int(random.integers(0, max(1, length - side))) for length in photo.size)
        picture = photo.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE))
        picture = change(picture) if change else picture
        picture.save(crops / f"{number:05d}.jpg", quality=90)
    output = folder / f"{name}-out"
    pipeline.extract(pipeline.Config(inputs=(str(crops),), output=str(output)))
    features = Tables.published(open_storage(str(output))).features
    rows = features.read(["uri", "embedding"]).sort_by("uri")
    vectors: Floats = np.array(rows["embedding"].combine_chunks().flatten(), np.float32)
    return vectors.reshape(rows.num_rows, -1)


def _row(name: str, found: list[Drift]) -> None:
    def text(values: list[float]) -> str:
        return f"{statistics.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"

    novelty = text([drift.novelty for drift in found])
    components = text([drift.components for drift in found])
    separability = text([drift.separability for drift in found])
    print(f"| {name} | {novelty} | {components} | {separability} |", flush=True)


def main() -> None:
    """Print a table of the three figures."""
    photos = sample_photos()
    old = [photo for name, photo in photos.items() if name not in NEW]
    new = [photo for name, photo in photos.items() if name in NEW]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        known, other = _vectors(folder, "old", old, None), _vectors(folder, "new", new, None)
        changed = {
            word: _vectors(folder, word.replace(" ", "-").replace("%", ""), old, change)
            for word, change in CHANGES.items()
        }
    print("| tonight | novelty | components | separability |\n|---|---|---|---|")
    for rows in (300, ROWS):
        for share in SHARES:
            _row(f"{rows:,} images, {share:.0%} new", _repeat(known, other, rows, share))
    for word, vectors in changed.items():
        _row(f"{ROWS:,} images, {word}", _repeat(known, vectors, ROWS, 1.0))


def _repeat(known: Floats, other: Floats, rows: int, share: float) -> list[Drift]:
    """Compare rows of ``known`` with others of it, of which a share comes from ``other``."""
    found = []
    for number in range(ROUNDS):
        random = np.random.default_rng(number)
        order = random.permutation(len(known))
        count = round(share * rows)
        same, others = order[rows : 2 * rows - count], order[2 * rows - count : 2 * rows]
        tonight = np.concatenate([known[same], other[others]])
        drift = measure(known[order[:rows]], tonight)
        assert drift
        found.append(drift)
    return found


if __name__ == "__main__":
    main()
