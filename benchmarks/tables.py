"""Make the tables of the benchmarks of search and training: real activations, and made rows."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

import pipeline
from pipeline.tables import Tables
from pipeline.tables.commit import Commit
from transforms.parts.write import Part, write_part
from transforms.records import features_schema
from transforms.storage import open_storage

DIMENSION = 1280
_DIRECTIONS = 16
_RECIPE = {"backbone": "made"}


def real_table(folder: Path, images: int) -> Path:
    """Return an output with the vectors of crops of scikit-image's photos; make it once.

    Args:
        folder: Where the crops and the output are kept.
        images: Number of crops.
    """
    output = folder / f"crops-{images}-out"
    crops = folder / f"crops-{images}"
    if not (output / "features/_delta_log").exists():
        _make_crops(crops, images)
        config = pipeline.Config(inputs=(str(crops),), output=str(output), max_failure_rate=1)
        pipeline.extract(config)
    return output


def sample_photos() -> dict[str, Image.Image]:
    """Return scikit-image's photos as RGB, by their names."""
    spec = find_spec("skimage.data")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("benchmarks need scikit-image for its photos: pip install '.[bench]'")
    place = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(p for p in place.iterdir() if p.suffix in (".png", ".jpg", ".gif", ".tif"))
    photos = {}
    for file in files:
        try:
            photos[file.stem] = Image.open(file).convert("RGB")
        except OSError:
            continue
    return photos


def _make_crops(folder: Path, count: int) -> None:
    """Cut windows of a tenth to all of a photo, each turned, mirrored and brightened at random."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = list(sample_photos().values())

    def make(number: int) -> None:
        random = np.random.default_rng(number)
        photo = photos[number % len(photos)]
        side = max(32, int(min(photo.size) * random.uniform(0.1, 1)))
        left, top = (int(random.uniform(0, max(1, length - side))) for length in photo.size)
        picture = photo.crop((left, top, left + side, top + side)).resize((224, 224))
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture = picture.rotate(90 * int(random.integers(4)))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=int(random.integers(60, 95)))
        (folder / f"{number:06d}.jpg").write_bytes(encoded.getvalue())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, range(count)))


@dataclass(frozen=True, slots=True)
class MadeRows:
    """Which rows to make."""

    night: int = 0  # the uris begin with it
    centres: int = 4000  # of the vectors, which the nights share
    part_rows: int = 2048
    # Whether the images of each centre lie in a folder of their own, named by its number.
    folders: bool = False
    # Whether each row has a made hash of contents, by which samples are drawn.
    hashes: bool = False


def made_table(output: Path, rows: int, made: MadeRows | None = None) -> None:
    """Commit made rows to a table, as one night.

    Args:
        output: Folder of the tables.
        rows: Number of rows.
        made: Which rows.
    """
    made = made or MadeRows()
    night, size = made.night, made.part_rows
    storage = open_storage(str(output))
    features = Tables.open(storage).features
    run_id = f"20261126T{night:06d}.000Z-0000"

    def part(start: int) -> Part:
        count = min(size, rows - start)
        numbers, middles = made_classes(count, night * 10_000_000 + start, made.centres)
        name = f"part-{run_id}-shard-{start // size:05d}"
        folders = [f"{middle:05d}/" if made.folders else "" for middle in middles]
        uris = [f"/made/{night:04d}/{own}{start + i:08d}.jpg" for i, own in enumerate(folders)]
        table = _rows(numbers, run_id, uris)
        if made.hashes:
            hashes = [hashlib.sha256(uri.encode()).hexdigest() for uri in uris]
            place = table.schema.get_field_index("content_sha256")
            table = table.set_column(place, "content_sha256", [hashes])
        return write_part(storage, table, "features", name, _RECIPE)

    with ThreadPoolExecutor(2) as pool:
        features.commit(Commit(run_id, list(pool.map(part, range(0, rows, size)))))


def made_vectors(count: int, seed: int, centres: int) -> np.ndarray:
    """Return made vectors, float32 [count, 1280]: around centres, and not negative.

    Around each centre they vary in 16 directions, so that some are nearer than others.
    """
    return made_classes(count, seed, centres)[0]


def made_classes(count: int, seed: int, centres: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made vectors, as ``made_vectors``, and the number of the centre of each [count]."""
    shared, random = np.random.default_rng(0), np.random.default_rng((1, seed))
    directions = shared.standard_normal((_DIRECTIONS, DIMENSION), np.float32)
    middles = shared.standard_normal((centres, DIMENSION), np.float32)
    vectors: np.ndarray = random.standard_normal((count, _DIRECTIONS), np.float32) @ directions
    vectors *= 0.1
    numbers = random.integers(centres, size=count)
    vectors += middles[numbers]
    np.maximum(vectors, 0, out=vectors)
    return vectors, numbers


def _rows(numbers: np.ndarray, run_id: str, uris: list[str]) -> pa.Table:
    """Return rows of the features table with these vectors."""
    count = len(uris)
    schema = features_schema(DIMENSION)
    element = schema.field("embedding").type
    known: dict[str, Any] = {
        "uri": uris,
        "etag": [""] * count,
        "size": [1] * count,
        "label": [f"label {row % 1000}" for row in range(count)],
        "score": [0.5] * count,
        "width": [500] * count,
        "height": [375] * count,
        "recipe": ["0" * 64] * count,
        "run_id": [run_id] * count,
        "extracted_at": [datetime(2026, 11, 26, tzinfo=UTC)] * count,
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), type=element),
    }
    columns = [
        pa.array(known[field.name], field.type)
        if field.name in known
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
