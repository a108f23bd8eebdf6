"""One photo's way through the stages, with the very functions that ``extract`` runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.reports.text import format_table
from transforms.backbones import Resolved, export, model_id, resolve
from transforms.decode.image import DecodePolicy, decode
from transforms.embed import embed
from transforms.engines import EngineConfig, Outputs, load_engine
from transforms.engines.models import cached_model
from transforms.errors import ImageError, UserError
from transforms.preprocess import ValueRange, image_chain
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.records import ImageReference
from transforms.storage import local_path


def trace(photo: str, options: Mapping[str, Any], save: str | None) -> str:
    """Shape, dtype, value range and seconds at each stage; with ``save`` the picture that the network sees."""
    config = Config.of(inputs=(photo,), output="-", **options)
    network = resolve(config.network)
    try:
        return _trace(photo, config, network, save)
    except ImageError as error:
        raise UserError(f"{photo}: {error.stage} failed: {error.kind.word}: {error.message}") from error


def _trace(photo: str, config: Config, network: Resolved, save: str | None) -> str:
    data, read_seconds = _timed(lambda: _read(photo, config))
    policy = DecodePolicy(max_bytes=config.max_image_bytes, max_pixels=config.max_pixels)
    chain = image_chain(network.input_size, config.resize)
    image, decode_seconds = _timed(lambda: decode(data, policy, network.input_size))
    pixels, resize_seconds = _timed(lambda: chain(image.pixels))
    value_range = ValueRange(network.preprocess)
    values, range_seconds = _timed(lambda: value_range(pixels))
    folder = cached_model(model_id(network), lambda scratch: export(network, scratch))
    engine = load_engine(EngineConfig(str(folder), config.engine, config.precision))
    (outputs, failures), embed_seconds = _timed(lambda: embed(engine, pixels[None]))
    if failures:
        raise failures[0]
    rows = [
        ("stage", "shape", "dtype", "from", "to", "seconds", "what"),
        _row("loaded", image.pixels, read_seconds + decode_seconds,
             f"{image.format} {image.width}×{image.height}, {len(data):,} bytes"),
        _row("resized", pixels, resize_seconds, str(chain)),
        _row("preprocessed", values, range_seconds, f"{value_range} (shown here; the network does it itself)"),
        _row("pooled vector", outputs.features[0], embed_seconds,
             f"{config.network.backbone}, {type(engine).__name__}"),
        _row("top-k labels", outputs.scores[0], 0.0, "from the same forward pass"),
    ]  # fmt: skip
    first = " ".join(f"{value:.4f}" for value in outputs.features[0][:8])
    lines = [format_table(rows), "", f"vector  {first} …", *_labels(outputs, engine.model.labels)]
    if save:
        lines.append(f"saved   {_save(pixels, photo, save)}")
    return "\n".join(lines)


def _read(photo: str, config: Config) -> bytes:
    uri = str(local_path(photo) or photo)
    item = next(
        read_images(
            [ImageReference(uri, "", -1, None)], ReadPolicy(max_bytes=config.max_image_bytes, stores=config.stores)
        )
    )
    if isinstance(item, EncodedImage):
        return item.data
    raise item[1]


def _timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def _row(stage: str, values: np.ndarray, seconds: float, what: str) -> tuple[str, ...]:
    shape = "×".join(map(str, values.shape))
    low, high = (f"{f(values):.4g}" if values.size else "-" for f in (np.min, np.max))
    return stage, shape, str(values.dtype), low, high, f"{seconds:.4f}", what


def _labels(outputs: Outputs, names: tuple[str, ...]) -> list[str]:
    pairs = zip(outputs.indices[0].tolist(), outputs.scores[0].tolist(), strict=True)
    return [f"label   {names[index]} {score:.3f}" for index, score in pairs]


def _save(pixels: np.ndarray, photo: str, folder: str) -> Path:
    from PIL import Image

    directory = Path(folder)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{Path(photo).stem}-as-seen.png"
    Image.fromarray(pixels).save(path)
    return path
