"""A preset of KerasHub: a backbone and its image converter, in one folder.

The converter's size, crop, kernel, scale and offset are the preprocessing.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.fetched import fetch_model
from transforms.backbones.hub_families import (
    Family,
    family_of,
    image_shape,
    pooling_of,
    vectors_of,
)
from transforms.backbones.network import CustomFacts, Images, Network, Rows, import_keras
from transforms.backbones.spec import Resolved, file_sha256
from transforms.choices import BackboneConfig, Pooling, ResizeMode
from transforms.errors import UserError, first_line
from transforms.extras import install_command
from transforms.mean_std import mean_std_text
from transforms.names import printable
from transforms.storage.settings import Stores

PREFIX = "hub:"
_CONFIG, _CONVERTER = "config.json", "image_converter.json"
# What determines a vector; a preset may also hold a tokenizer and more.
_FILES = (_CONFIG, _CONVERTER, "preprocessor_config.json", "model*", "*.safetensors")


@dataclass(frozen=True, slots=True)
class Preset:
    """A loaded preset."""

    backbone: Any  # keras_hub.models.Backbone
    converter: Any  # keras_hub.layers.ImageConverter
    family: Family
    size: tuple[int, int]  # height, width


def is_preset(path: Path) -> bool:
    """Tell whether a folder is a preset."""
    return (path / _CONFIG).is_file()


def local_preset(words: str, stores: Stores) -> Path:
    """Return the local folder of what follows ``hub:``: a folder, a URL or the name of a preset.

    Raises:
        UserError: It is none of these, or cannot be downloaded.
    """
    path = Path(words).expanduser()
    if path.exists():
        return path
    if words.startswith(("s3://", "gs://", "az://", "file://")):
        return fetch_model(words, stores)
    import_keras()
    _import_hub()
    from keras_hub.src.utils import preset_utils

    try:
        found = [preset_utils.get_file(words, name) for name in (_CONFIG, _CONVERTER)]
        preset_utils.get_file(words, preset_utils.MODEL_WEIGHTS_FILE)
    except Exception as error:  # KerasHub and Kaggle raise many kinds
        raise UserError(
            f"--backbone {PREFIX}{words}: is no folder, and KerasHub cannot download a preset of "
            f"this name ({printable(first_line(error))}). Without network, save it elsewhere by "
            "keras_hub's Backbone.from_preset(NAME).save_to_preset(FOLDER) and the same of "
            f"keras_hub.layers.ImageConverter, copy that folder here, and give {PREFIX}FOLDER"
        ) from error
    return Path(found[0]).parent


def files_sha256(path: Path) -> str:
    """Return the sha256 of the names and contents of the files that determine a vector."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _FILES for file in path.glob(pattern)}):
        digest.update(f"{file.name}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def read_facts(path: Path, config: BackboneConfig) -> CustomFacts:
    """Load the preset, and find its vector and its preprocessing.

    Raises:
        UserError: It is damaged, its class is not known, or an option contradicts it.
    """
    if config.feature_layer:
        raise UserError(
            f"--feature-layer {config.feature_layer}: {PREFIX}{path.name} has a vector of its own; "
            "leave the option out"
        )
    preset = load(path, config)
    pooling = pooling_of(preset.family, config.pooling, path.name)
    pixels = np.zeros((1, *preset.size, 3), np.float32)
    return CustomFacts(
        input_size=preset.size,
        # No layer has such a name.
        feature_layer=f"{PREFIX}{preset.family.gives}",
        dimension=int(vectors_of(preset.backbone, pixels, pooling).shape[-1]),
        classes=0,
        outputs="vectors",
        value_range=_value_range(preset.converter),
        resize=_resize(preset.converter, path),
        pooling=pooling,
        resize_needed=_resize_needed(preset.converter, path),
    )


def open_model(resolved: Resolved, path: Path) -> Network:
    """Load the preset."""
    config = resolved.config
    preset = load(path, config)
    # The golden images have the right size.
    preset.converter.image_size = None
    pooling: Pooling | None = config.pooling

    def forward(pixels: Any) -> tuple[Any, Any]:
        return vectors_of(preset.backbone, pixels, pooling), None

    def reference(images: Images) -> Rows:
        import tensorflow as tf

        with tf.device("/CPU:0"):
            pixels = tf.cast(preset.converter(images), tf.float32)
            return vectors_of(preset.backbone, pixels, pooling).numpy(), None

    parameters = int(preset.backbone.count_params())
    return Network(forward, reference, resolved.dimension, 0, parameters)


def _import_hub() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            f"--backbone {PREFIX}…: keras-hub is not installed. {install_command('hub')}"
        ) from error
    return keras_hub


def load(path: Path, config: BackboneConfig) -> Preset:
    """Load a backbone in float32, and its image converter.

    Raises:
        UserError: The preset is damaged, or its class is not known.
    """
    family = family_of(_class_of(path), path.name)
    import_keras()
    hub = _import_hub()
    try:
        converter = hub.layers.ImageConverter.from_preset(str(path))
        size = _size(converter, config)
        shape = {"image_shape": (*size, 3)} if family.any_size and size else {}
        backbone = hub.models.Backbone.from_preset(str(path), dtype="float32", **shape)
    except Exception as error:  # KerasHub raises many kinds
        raise UserError(
            f"--backbone {PREFIX}{path}: KerasHub cannot load it ({printable(first_line(error))}); "
            f"it needs {_CONFIG}, {_CONVERTER} and model.weights.h5, as save_to_preset writes them "
            "for a backbone and for its image converter"
        ) from error
    # The file names its class twice.
    family = family_of(type(backbone).__name__, path.name)
    own = image_shape(backbone)
    height, width = size or own
    if not height or not width:
        raise UserError(f"{path.name} takes images of any size: say which by --input-size")
    if own[0] and own != (height, width):
        raise UserError(
            f"--backbone {PREFIX}{path}: takes images of {own[0]}x{own[1]}, and is to get "
            f"{height}x{width}; leave --input-size out, or correct {_CONVERTER}"
        )
    return Preset(backbone, converter, family, (height, width))


def _class_of(path: Path) -> str:
    """Return the class of a preset's backbone, without importing KerasHub.

    Raises:
        UserError: The file is damaged, or is not KerasHub's.
    """
    try:
        facts = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        module, name = str(facts["module"]), str(facts["class_name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"--backbone {PREFIX}{path}: {_CONFIG} is none of a preset of KerasHub "
            f"({printable(first_line(error))}); give a folder that save_to_preset wrote"
        ) from error
    return name if module.startswith("keras_hub.") else ""


def _size(converter: Any, config: BackboneConfig) -> tuple[int, int] | None:
    if config.input_size:
        return config.input_size, config.input_size
    return tuple(converter.image_size) if converter.image_size else None


def _value_range(converter: Any) -> str:
    """Return x · scale + offset as (x / 255 − mean) / deviation."""
    if converter.scale is None and converter.offset is None:
        return "none"
    scale = _three(1.0 if converter.scale is None else converter.scale)
    offset = _three(0.0 if converter.offset is None else converter.offset)
    if 0 in scale:
        raise UserError(f"{_CONVERTER}: a scale of 0 makes all pixels alike; correct it")
    std = [1 / (255 * factor) for factor in scale]
    mean = [-shift * deviation for shift, deviation in zip(offset, std, strict=True)]
    return mean_std_text((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _three(value: Any) -> list[float]:
    numbers = [float(number) for number in np.broadcast_to(np.asarray(value, np.float64), (3,))]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{_CONVERTER}: scale and offset must be numbers")
    return numbers


def _resize(converter: Any, path: Path) -> ResizeMode:
    kernel = converter.interpolation
    if converter.pad_to_aspect_ratio or kernel not in ("bilinear", "bicubic"):
        asked = "pads images" if converter.pad_to_aspect_ratio else f"resizes by {kernel}"
        raise UserError(
            f"--backbone {PREFIX}{path}: its image converter {asked}, which is not done here; "
            "bilinear and bicubic are, squashed or cropped"
        )
    if converter.crop_to_aspect_ratio:
        return "crop-bicubic" if kernel == "bicubic" else "crop"
    return "squash-bicubic" if kernel == "bicubic" else "squash"


def _resize_needed(converter: Any, path: Path) -> str:
    if converter.antialias:
        return ""
    return (
        f"--backbone {PREFIX}{path}: its image converter resizes without antialiasing, which is "
        f"not done here. Add --resize {_resize(converter, path)} to resize with it: vectors then "
        "differ from KerasHub's own (docs/backbones.md)"
    )
