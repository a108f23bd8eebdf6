"""Recompute the vectors of a sample of the features table, and compare them with the stored ones.

This calls the same functions as ``extract``: a difference means damage, or a machine that computes
differently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.choices import Precision
from transforms.containers.index import Indexes
from transforms.containers.locate import locate
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize
from transforms.embed import embed
from transforms.engines import MIN_COSINE, Engine, EngineConfig, load_engine
from transforms.errors import FailureKind, ImageError
from transforms.parts.check import Problem
from transforms.read import EncodedImage, ReadPolicy, Result, read_images
from transforms.recipe import Recipe, resize_in
from transforms.records import ImageReference, references_of
from transforms.storage.settings import Stores

# Images held at once.
_CHUNK = 256


@dataclass(slots=True)
class Recomputed:
    """Results of a sample; each image counts once."""

    same: int = 0
    # Etag or size differ from the table: the next run processes these images.
    changed: int = 0
    vanished: int = 0
    # One problem per image.
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.same:,} vectors are the same, {len(self.problems):,} are not"
        return f"{counts}; {self.changed:,} images changed since, {self.vanished:,} vanished since"


def recompute(
    rows: pa.Table,
    recipe: Recipe,
    model: Path,
    stores: Stores = (),
    indexes: Indexes | None = None,
) -> Recomputed:
    """Compute vectors again with the exported network, and compare them with the stored ones.

    The size limits are those that the rows need. Vectors may differ by the ``tolerance`` of the
    recipe's precision, which allows for another engine or machine.

    Args:
        rows: Rows of the features table, with all columns.
        recipe: The recipe of the rows.
        model: Folder of the exported network.
        stores: Where buckets are.
        indexes: Where the members of containers are kept.
    """
    result = Recomputed()
    if not rows.num_rows:
        return result
    precision: Any = recipe["precision"]
    engine = load_engine(EngineConfig(str(model), precision=precision))
    facts = rows.select(["size", "width", "height"]).to_pylist()
    max_bytes = max(row["size"] for row in facts)
    policy = DecodePolicy(
        max_bytes=max_bytes, max_pixels=max(row["width"] * row["height"] for row in facts)
    )
    decode = DecodeAndResize(policy, engine.model.input_size, resize_in(recipe))
    reading = ReadPolicy(max_bytes=max_bytes, stores=stores)
    references = locate(references_of(rows), stores, indexes)
    # A stream is read from its start to its end, once.
    order = sorted(range(len(references)), key=lambda number: _place(references[number]))
    rows, references = rows.take(pa.array(order)), [references[number] for number in order]
    for start in range(0, rows.num_rows, _CHUNK):
        chunk = rows.slice(start, _CHUNK)
        images = read_images(references[start : start + _CHUNK], reading)
        pixels = dict(_pixels(chunk, images, decode, result))
        if pixels:
            _compare(chunk, pixels, engine, result, tolerance(precision))
    return result


def _place(reference: ImageReference) -> tuple[str, int]:
    return reference.location, reference.member.offset if reference.member else 0


def tolerance(precision: Precision) -> float:
    """Return the max distance of two vectors of one image, as a share of their length.

    It is the distance of two vectors of equal length at the min cosine that engines must reach:
    0.0045 in float32.
    """
    return math.sqrt(2 * (1 - MIN_COSINE[precision]))


def _pixels(
    rows: pa.Table, images: Iterator[Result], decode: DecodeAndResize, result: Recomputed
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield position and pixels (uint8 [H, W, 3]) of unchanged images; count others in result."""
    for position, item in enumerate(images):
        try:
            if not isinstance(item, EncodedImage):
                raise item[1]
            if _has_content(item, rows["content_sha256"][position].as_py(), result):
                yield position, decode(item.data).pixels
        except ImageError as error:
            if error.kind is FailureKind.NOT_FOUND:
                result.vanished += 1
            elif error.kind is FailureKind.CHANGED:
                result.changed += 1
            else:
                result.problems.append(_failed(rows["uri"][position].as_py(), error))


def _has_content(image: EncodedImage, known: str, result: Recomputed) -> bool:
    if image.sha256 != known:
        what = (
            f"sha256 {image.sha256[:12]}…, in the table {known[:12]}…, though etag and size are "
            "the same"
        )
        result.problems.append(Problem("content", image.reference.uri, what))
    return image.sha256 == known


def _compare(
    rows: pa.Table,
    pixels: dict[int, np.ndarray],
    engine: Engine,
    result: Recomputed,
    allowed: float,
) -> None:
    outputs, failures = embed(engine, np.stack(list(pixels.values())))
    for place, position in enumerate(pixels):
        uri = rows["uri"][position].as_py()
        if place in failures:
            result.problems.append(_failed(uri, failures[place]))
            continue
        stored = np.array(rows["embedding"][position].as_py(), np.float64)
        distance = _distance(stored, outputs.features[place].astype(np.float64))
        if distance <= allowed:
            result.same += 1
        else:
            what = f"is off by {distance:.2g} of its length; {allowed:.2g} is allowed"
            result.problems.append(Problem("vector", uri, what))


def _distance(stored: np.ndarray, computed: np.ndarray) -> float:
    """Return |a - b| / |b| of float64 [D], infinite for vectors that cannot be compared."""
    if stored.shape != computed.shape:
        return math.inf
    distance = float(np.linalg.norm(stored - computed)) / max(
        float(np.linalg.norm(computed)), 1e-12
    )
    return distance if math.isfinite(distance) else math.inf


def _failed(uri: str, error: ImageError) -> Problem:
    return Problem("vector", uri, f"cannot be computed again: {error.kind.word}: {error.message}")
