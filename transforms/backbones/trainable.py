"""A backbone as a Keras model that can be trained: which layers learn, and which stay frozen."""

from __future__ import annotations

import difflib
from typing import Any

from transforms.backbones import keras_file, named
from transforms.backbones.network import ONE_SESSION
from transforms.backbones.spec import Resolved
from transforms.errors import UserError

# The name of the layer that gives the vector.
VECTOR = "vector"
# Frozen layers keep their statistics: a BatchNormalization that is not trainable runs in inference
# mode, as in keras.io/guides/transfer_learning.
_FROZEN = ("BatchNormalization", "Normalization")
_SHOWN = 12


def open_trainable(resolved: Resolved) -> Any:
    """Build and fill a network up to its vector.

    Imports TensorFlow. Resets Keras' session.

    Returns:
        A ``keras.Model``, float32 [N, H, W, 3] in the network's value range → float32 [N, D]. Its
        last layer is called ``VECTOR``.

    Raises:
        UserError: The network cannot be trained.
    """
    with ONE_SESSION:
        base = _vector_model(resolved)
        import keras

        vector = base.output
        if resolved.config.normalize == "l2":
            vector = keras.layers.UnitNormalization(name=_free_name(base))(vector)
        elif base.layers[-1].name != VECTOR:
            vector = keras.layers.Identity(name=_free_name(base))(vector)
        return keras.Model(base.input, vector)


def _vector_model(resolved: Resolved) -> Any:
    if resolved.backbone:
        return named.vector_model(resolved)
    path = resolved.weights.path
    assert path
    if path.is_dir():
        raise UserError(
            f"--backbone {path}: is a folder, of a SavedModel or of a preset, which cannot be "
            "trained here; give a .keras file"
        )
    if resolved.layout:
        raise UserError(
            f"--backbone {path}: is an ONNX file, which cannot be trained here; train a head on "
            "its vectors, without --unfreeze"
        )
    return keras_file.vector_model(resolved, path)


def _free_name(base: Any) -> str:
    """Return ``VECTOR``, or with a number when a layer of the network has this name already."""
    taken = {layer.name for layer in base.layers}
    number = next(n for n in range(1, len(taken) + 2) if _numbered(n) not in taken)
    return _numbered(number)


def _numbered(number: int) -> str:
    return VECTOR if number == 1 else f"{VECTOR}{number}"


def unfreeze(base: Any, choice: str) -> list[str]:
    """Let the last layers of a network learn, and freeze all others.

    Args:
        base: What ``open_trainable`` returned. It is changed in place.
        choice: How many layers with weights learn, the last ones; or the name of the first one.

    Returns:
        The names of the layers that learn.

    Raises:
        UserError: There is no such layer, or there are not as many.
    """
    able = [layer for layer in base.layers if _can_learn(layer)]
    if choice.isdecimal():
        if not 1 <= int(choice) <= len(able):
            raise UserError(
                f"--unfreeze {choice}: this network has {len(able)} layers that can learn; give a "
                f"number from 1 to {len(able)}, or the name of the first layer"
            )
        chosen = able[-int(choice) :]
    else:
        names = [layer.name for layer in base.layers]
        if choice not in names:
            raise _unknown(choice, [layer.name for layer in able])
        later = base.layers[names.index(choice) :]
        chosen = [layer for layer in later if _can_learn(layer)]
        if not chosen:
            raise UserError(
                f"--unfreeze {choice}: no layer from there on can learn; the last one that can is "
                f"{able[-1].name}"
            )
    base.trainable = True
    for layer in base.layers:
        layer.trainable = layer in chosen
    return [layer.name for layer in chosen]


def _can_learn(layer: Any) -> bool:
    return bool(layer.weights) and type(layer).__name__ not in _FROZEN


def _unknown(choice: str, names: list[str]) -> UserError:
    close = [name for name in names if choice.lower() in name.lower()]
    close = close or difflib.get_close_matches(choice, names, n=_SHOWN, cutoff=0.5)
    shown = f"close: {', '.join(close[:_SHOWN])}; " if close else ""
    return UserError(
        f"--unfreeze {choice}: there is no such layer; {shown}the last of the {len(names)} layers "
        f"that can learn are {', '.join(names[-_SHOWN:])}. Or give a number from 1 to {len(names)}"
    )
