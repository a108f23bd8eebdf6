"""Check that engines, precisions and scaled decoding give the same vectors of real photos."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.cases import Case
from benchmarks.images import make_images
from benchmarks.measure import measure
from benchmarks.rows import Row, Settings

if TYPE_CHECKING:
    from transforms.engines import Outputs
    from transforms.engines.base import Pixels

_ENGINES = ("openvino", "tensorflow")


def agreement(case: Case) -> dict[str, float]:
    """Compare the vectors of engines in both precisions, over a folder's images.

    Returns:
        Distances relative to the vector's length, cosines, and shares of equal first labels.
    """
    from transforms.engines import cosine

    pixels = _pixels(case, scaled=True)
    exact = _outputs(case, pixels)
    seen = {}
    for engine in _ENGINES:
        other = _outputs(replace(case, engine=engine), pixels)
        apart = np.linalg.norm(other.features - exact.features, axis=1) / np.linalg.norm(
            exact.features, axis=1
        )
        seen[f"{engine} float32 apart"] = float(apart.max())
        low = _outputs(replace(case, engine=engine, precision="bfloat16"), pixels)
        cosines = cosine(low.features, exact.features)
        seen[f"{engine} bfloat16 least cosine"] = float(cosines.min())
        seen[f"{engine} bfloat16 mean cosine"] = float(cosines.mean())
        seen[f"{engine} bfloat16 equal labels"] = _equal_labels(low, exact)
    return seen


def scaling(case: Case) -> dict[str, float]:
    """Compare scaled decoding with full decoding, and full decoding with Pillow's.

    Returns:
        Cosines, the share of equal first labels, and the distance from Pillow in levels.
    """
    from transforms.decode.image import DecodePolicy, decode
    from transforms.engines import cosine

    exact, scaled = (_outputs(case, _pixels(case, scaled)) for scaled in (False, True))
    cosines = cosine(scaled.features, exact.features)
    apart = 0.0
    for path in case.files(case.count):
        data = path.read_bytes()
        ours, pillow = (
            decode(data, DecodePolicy()).pixels,
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        )
        apart = max(apart, float(np.abs(ours.astype(np.int16) - pillow).mean()))
    return {
        "least cosine": float(cosines.min()),
        "mean cosine": float(cosines.mean()),
        "equal labels": _equal_labels(scaled, exact),
        "apart": apart,
    }


def _pixels(case: Case, scaled: bool) -> Pixels:
    """Return the images at the network's input size, uint8 [N, 224, 224, 3]."""
    from transforms.decode.image import DecodePolicy, decode
    from transforms.preprocess import image_chain

    size = (224, 224)
    chain = image_chain(size, "squash")
    decoded = (
        decode(path.read_bytes(), DecodePolicy(), size if scaled else None)
        for path in case.files(case.count)
    )
    return np.stack([chain(image.pixels) for image in decoded])


def _outputs(case: Case, pixels: Pixels) -> Outputs:
    return case.engine_of().run(pixels)


def _equal_labels(a: Outputs, b: Outputs) -> float:
    return float((a.indices[:, 0] == b.indices[:, 0]).mean())


def quality(settings: Settings) -> Iterator[Row]:
    """Check the tolerances that the documents state; deterministic, so measured only once."""
    small, large = (
        str(_images(settings, size, count)) for size, count in (("small", 1000), ("large", 120))
    )
    seen = measure(Case("agreement", small, 1000)).by_name
    yield Row(
        "float32, TensorFlow from OpenVINO: most",
        seen["tensorflow float32 apart"],
        "of length",
        1e-3,
        True,
    )
    for engine in _ENGINES:
        yield Row(
            f"bfloat16, {engine}: least cosine", seen[f"{engine} bfloat16 least cosine"], "", 0.99
        )
        yield Row(
            f"bfloat16, {engine}: mean cosine", seen[f"{engine} bfloat16 mean cosine"], "", 0.998
        )
        yield Row(
            f"bfloat16, {engine}: equal first labels", seen[f"{engine} bfloat16 equal labels"], ""
        )
    seen = measure(Case("scaling", large, 120)).by_name
    yield Row(
        "scaled decoding: least cosine",
        seen["least cosine"],
        "",
        0.995,
        detail="4.3 megapixels at 1/2",
    )
    yield Row("scaled decoding: equal first labels", seen["equal labels"], "", 0.99)
    yield Row("full decoding from Pillow's: most", seen["apart"], "levels", 1.0, True)


def _images(settings: Settings, size: str, count: int) -> Path:
    folder = settings.folder / size
    make_images(folder, count, size)
    return folder
