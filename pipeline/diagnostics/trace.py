"""Trace one photo through the stages, with the same functions that ``extract`` runs."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.reports.text import format_table
from pipeline.runners.computing import check_accelerator, engine_of
from transforms.backbones import Resolved, resolve
from transforms.backbones.exported import exported
from transforms.backbones.model_json import resize_of
from transforms.decode.image import DecodePolicy, decode
from transforms.embed import embed
from transforms.engines import EngineConfig, Outputs, load_engine
from transforms.errors import ImageError, UserError
from transforms.photo import read_photo
from transforms.preprocess import ValueRange, image_chain
from transforms.read import ReadPolicy
from transforms.storage.local import LocalStorage

_HEADER = ("stage", "shape", "dtype", "from", "to", "seconds", "what")
_VECTOR_START = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """A photo after one stage."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float | None  # the smallest value; None if there are no values
    high: float | None
    seconds: float
    what: str  # format, method or network

    @classmethod
    def of(cls, name: str, values: np.ndarray, seconds: float, what: str) -> Stage:
        """Describe the values that a stage made.

        Args:
            name: The stage.
            values: Of any shape and dtype.
            seconds: The stage's time.
            what: Format, method or network.
        """
        low, high = (float(np.min(values)), float(np.max(values))) if values.size else (None, None)
        return cls(name, values.shape, str(values.dtype), low, high, seconds, what)

    @property
    def row(self) -> tuple[str, ...]:
        """The stage as a row of a table."""
        low, high = ("-" if value is None else f"{value:.4g}" for value in (self.low, self.high))
        shape = "×".join(map(str, self.shape))
        return self.name, shape, self.dtype, low, high, f"{self.seconds:.4f}", self.what


@dataclass(frozen=True, slots=True)
class Trace:
    """The result of tracing one photo through the stages."""

    stages: tuple[Stage, ...]
    vector_start: tuple[float, ...]  # the first values of the vector
    labels: tuple[tuple[str, float], ...]  # name and score, best first
    saved: Path | None = None  # the picture that the network sees

    def __str__(self) -> str:
        rows = [_HEADER, *(stage.row for stage in self.stages)]
        first = " ".join(f"{value:.4f}" for value in self.vector_start)
        lines = [format_table(rows), "", f"vector  {first} …"]
        lines += [f"label   {name} {score:.3f}" for name, score in self.labels]
        if self.saved:
            lines.append(f"saved   {self.saved}")
        return "\n".join(lines)


def trace(photo: str, save: str | None = None, **options: Any) -> Trace:
    """Follow one photo through the stages.

    Args:
        photo: Path or URL of an image.
        save: A folder for the picture that the network sees, as PNG; None for none.
        **options: Of ``Config.of``, besides inputs and output.

    Raises:
        UserError: An invalid option, or an image that cannot be read or decoded.
    """
    config = Config.of(inputs=(photo,), output="-", **options)
    network = resolve(config.network)
    try:
        return _trace(photo, config, network, save)
    except ImageError as error:
        raise UserError(
            f"{photo}: {error.stage} failed: {error.kind.word}: {error.message}"
        ) from error


def _trace(photo: str, config: Config, network: Resolved, save: str | None) -> Trace:
    check_accelerator(config)
    data, read_seconds = _timed(lambda: _read(photo, config))
    policy = DecodePolicy(max_bytes=config.max_image_bytes, max_pixels=config.max_pixels)
    resize = resize_of(network, config.resize)
    image, decode_seconds = _timed(lambda: decode(data, policy, network.input_size))
    chain = image_chain(network.input_size, resize, image.whole)
    pixels, resize_seconds = _timed(lambda: chain(image.pixels))
    value_range = ValueRange(network.preprocess)
    values, range_seconds = _timed(lambda: value_range(pixels))
    chosen = engine_of(config.engine, network)
    *_, folder = exported(network, chosen == "xla").values()
    required = config.require_accelerator
    engine = load_engine(EngineConfig(str(folder), chosen, config.precision, None, required))
    (outputs, failures), embed_seconds = _timed(lambda: embed(engine, pixels[None]))
    if failures:
        raise failures[0]
    loaded = f"{image.format} {image.width}×{image.height}, {len(data):,} bytes"
    shown = f"{value_range} (shown here; the network does it itself)"
    by = f"{config.network.backbone}, {type(engine).__name__}"
    vector, scores = outputs.features[0], outputs.scores[0]
    return Trace(
        stages=(
            Stage.of("loaded", image.pixels, read_seconds + decode_seconds, loaded),
            Stage.of("resized", pixels, resize_seconds, str(chain)),
            Stage.of("preprocessed", values, range_seconds, shown),
            Stage.of("pooled vector", vector, embed_seconds, by),
            Stage.of("top-k labels", scores, 0.0, "from the same forward pass"),
        ),
        vector_start=tuple(map(float, vector[:_VECTOR_START])),
        labels=_labels(outputs, engine.model.labels),
        saved=_save(pixels, photo, save) if save else None,
    )


def _read(photo: str, config: Config) -> bytes:
    limits = ReadPolicy(max_bytes=config.max_image_bytes, stores=config.stores)
    return read_photo(photo, limits, config.image_column)


def _timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def _labels(outputs: Outputs, names: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    pairs = zip(outputs.indices[0].tolist(), outputs.scores[0].tolist(), strict=True)
    return tuple((names[index], score) for index, score in pairs)


def _save(pixels: np.ndarray, photo: str, folder: str) -> Path:
    from PIL import Image

    content, name = io.BytesIO(), f"{Path(photo).stem}-as-seen.png"
    Image.fromarray(pixels).save(content, "PNG")
    LocalStorage(folder).write(name, content.getvalue())
    return Path(folder, name)
