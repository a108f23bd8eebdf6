"""The interface of a network for the export, and Keras tools that all networks share."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.choices import Layout, Pooling, ResizeMode
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.errors import UserError

Images = npt.NDArray[np.uint8]  # [N, H, W, 3], RGB
Floats = npt.NDArray[np.float32]
# Vectors [N, D] and probabilities [N, classes]
Rows = tuple[Floats, Floats | None]

# Held while a network is resolved or exported: Keras has one session for all threads of a process.
ONE_SESSION = threading.RLock()


@dataclass(frozen=True, slots=True)
class Network:
    """A network with its weights, in two forms: one to trace, and one that Keras runs itself."""

    # Tensor float32 [N, H, W, 3] in its value range → vectors, probabilities.
    forward: Callable[[Any], tuple[Any, Any]]
    # Pixels → the same, by the framework's own preprocessing and prediction.
    reference: Callable[[Images], Rows]
    dimension: int
    classes: int  # 0 without probabilities
    parameters: int


@dataclass(frozen=True, slots=True)
class CustomFacts:
    """What was found in a model of the user's."""

    input_size: tuple[int, int]  # height, width
    feature_layer: str  # where the vector comes from
    dimension: int
    # Classes of its one output [N, classes]; 0 if it has another kind of output.
    classes: int
    outputs: str  # its outputs, in words for an error
    # The name of its own layer that scales pixels.
    own_scaling: str | None = None
    # Whether it takes whole numbers from 0 to 255, which it scales itself.
    integral: bool = False
    # Order of the axes of an ONNX file's input.
    layout: Layout | None = None
    # What a preset of KerasHub says itself: its value range, and how it resizes and pools.
    value_range: str | None = None
    resize: ResizeMode | None = None
    pooling: Pooling | None = None
    # Why --resize has to be given; "" where it has not.
    resize_needed: str = ""


def import_keras() -> Any:
    """Import Keras on TensorFlow with the settings of exports: float32, channels last.

    Numbers its automatic layer names from nothing, so that a layer has the same name in every
    process.

    Raises:
        UserError: Keras is set to another backend.
    """
    import_tensorflow()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras is set to the backend {keras.backend.backend()!r}; exports need tensorflow. "
            "Set KERAS_BACKEND=tensorflow"
        )
    keras.utils.clear_session()
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return keras


def pooled(tensor: Any, pooling: Pooling | None, layer: str) -> Any:
    """Return a symbolic [N, H, W, C] or [N, T, D] pooled to [N, D]; [N, D] as it is.

    Raises:
        UserError: Other ranks, or it is not said how.
    """
    import keras

    rank = len(tensor.shape)
    if rank == 2:
        return tensor
    if rank not in (3, 4):
        raise UserError(
            f"--feature-layer {layer}: gives {list(tensor.shape)}; a vector needs a layer that "
            "gives [N, D], or [N, H, W, C] or tokens [N, T, D], which are pooled"
        )
    pooling = pooling_of(rank, pooling, layer)
    if pooling == "cls":
        return tensor[:, 0]
    kind = "Average" if pooling == "avg" else "Max"
    return getattr(keras.layers, f"Global{kind}Pooling{rank - 2}D")()(tensor)


def pooling_of(rank: int, asked: Pooling | None, layer: str) -> Pooling:
    """Return how a map [N, H, W, C] (rank 4) or tokens [N, T, D] (rank 3) become a vector.

    Raises:
        UserError: It is not said for tokens, or it cannot be done with a map.
    """
    if rank == 3 and asked is None:
        raise UserError(
            f"--pooling is missing: {layer} gives tokens [N, T, D]. Say which vector to take: cls "
            "(the first token), or avg or max (of all tokens)"
        )
    if rank == 4 and asked == "cls":
        raise UserError(f"--pooling cls: {layer} gives a map, which has no tokens; say avg or max")
    return asked or "avg"


def layer_output(model: Any, name: str, how: str) -> Any:
    """Return the symbolic output of the layer called ``name``.

    Raises:
        UserError: There is no such layer, or it gives several outputs. The message for an unknown
            layer has the closest names.
    """
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise unknown_layer(name, names, how)
    outputs = model.get_layer(name).output
    if isinstance(outputs, (list, tuple, dict)):
        raise UserError(
            f"--feature-layer {name}: gives several outputs; choose a layer that gives one"
        )
    return outputs


def choose_size(name: str, shape: tuple[int | None, ...], wanted: int | None) -> tuple[int, int]:
    """Return the input size of a custom model: its own, or the wanted one if it takes any.

    Raises:
        UserError: The model and the option disagree, or neither gives a size.
    """
    _, height, width, _ = shape
    if height and width:
        if wanted and (height, width) != (wanted, wanted):
            raise UserError(
                f"--input-size {wanted}: {name} takes images of {height}x{width} only; leave it out"
            )
        return height, width
    if not wanted:
        raise UserError(
            f"{name} takes images of any size: say which by --input-size, the one it was trained on"
        )
    return wanted, wanted


def unknown_layer(name: str, names: Sequence[str], how: str) -> UserError:
    """Return the error for an unknown layer or operation: close names, and how to list all."""
    close = [known for known in names if name.lower() in known.lower()][:5]
    close = close or difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    hint = f"close: {', '.join(close)}" if close else f"the last ones are {', '.join(names[-5:])}"
    return UserError(
        f"--feature-layer {name}: there is no such layer; {hint}. All {len(names)}: {how}"
    )


def run(model: Any, pixels: Any) -> Any:
    """Run Keras eagerly on the CPU and return NumPy arrays: a GPU may round differently."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        outputs = model(tf.constant(pixels), training=False)
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), outputs)


def set_weights(model: Any, arrays: Sequence[np.ndarray]) -> None:
    """Set the weights, and update the copy that Normalization keeps; Keras forgets that."""
    model.set_weights(arrays)
    refresh(model)


def refresh(model: Any) -> None:
    """Let layers that keep a copy of their weights (Normalization) take them anew."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
