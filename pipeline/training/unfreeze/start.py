"""The head that an unfreezing starts from: one that is given, or one trained on stored vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.backbones.spec import file_sha256
from transforms.errors import UserError, first_line

_DROPOUT = 0.2
_RATE, _EPOCHS, _PATIENCE, _BATCH = 1e-3, 50, 5, 64
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Stored vectors with their targets."""

    vectors: npt.NDArray[np.float32]  # [N, D]
    targets: npt.NDArray[np.float32]  # [N, classes]
    weights: npt.NDArray[np.float32]  # [N]


def train_head(train: Vectors, validation: Vectors, exclusive: bool, seed: int) -> Any:
    """Train a classifier on vectors: normalisation, dropout and one dense layer.

    Args:
        train: What it learns from.
        validation: Says when to stop; may be empty.
        exclusive: Whether one label excludes the others.
        seed: Decides its first weights and the order of the vectors.

    Returns:
        A ``keras.Model``, float32 [N, D] → scores float32 [N, classes].
    """
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((train.vectors.shape[1],), name="embedding")
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(train.vectors)
    x = layers.Dropout(_DROPOUT, name="dropout")(normalization(inputs))
    activation = "softmax" if exclusive else "sigmoid"
    x = layers.Dense(train.targets.shape[1], activation=activation, name="scores")(x)
    head = keras.Model(inputs, x, name="head")
    head.compile(
        keras.optimizers.AdamW(_RATE),
        "categorical_crossentropy" if exclusive else "binary_crossentropy",
    )
    checked = len(validation.vectors) > 0
    stop = keras.callbacks.EarlyStopping(
        "val_loss" if checked else "loss", patience=_PATIENCE, restore_best_weights=True
    )
    head.fit(
        train.vectors,
        train.targets,
        sample_weight=train.weights,
        batch_size=_BATCH,
        epochs=_EPOCHS,
        validation_data=(validation.vectors, validation.targets) if checked else None,
        callbacks=[stop],
        verbose=0,
    )
    return head


def head_labels(path: Path, recipe: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a head that is given, in the order of its scores.

    Args:
        path: Of ``head.keras``; ``head.json`` lies beside it.
        recipe: The id of the recipe of the table's vectors.
        classes: The labels of the table's images.

    Raises:
        UserError: The head was made for other vectors or other labels, or a file is damaged.
    """
    beside = path.with_suffix(".json")
    try:
        facts = json.loads(beside.read_text(encoding="utf-8"))
        labels = tuple(facts["labels"])
        made_for, sha256 = facts["recipe"], facts["sha256"]
        found = file_sha256(path)
    except OSError as error:
        raise UserError(
            f"--head {path}: {error.filename} cannot be read ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--head {path}: {beside.name} is damaged; train the head again, or leave it out"
        ) from error
    if found != sha256:
        raise UserError(
            f"--head {path}: {beside.name} belongs to another head; copy both files of one training"
        )
    if made_for != recipe:
        raise UserError(
            f"--head {path}: was trained on vectors of another recipe ({str(made_for)[:12]}…; this "
            f"table has {recipe[:12]}…); train a head on this table, or leave the option out"
        )
    if set(labels) != set(classes):
        missing, more = sorted(set(classes) - set(labels)), sorted(set(labels) - set(classes))
        raise UserError(
            f"--head {path}: has other labels than the images: only the images have "
            f"{_some(missing)}; only the head has {_some(more)}"
        )
    return labels


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def load_head(path: Path, dimension: int, classes: int) -> Any:
    """Load a head.

    Raises:
        UserError: It cannot be loaded, or takes other vectors.
    """
    import keras

    try:
        head = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds
        raise UserError(
            f"--head {path}: Keras cannot load it ({first_line(error)}); train it again"
        ) from error
    shapes = tuple(head.input_shape), tuple(head.output_shape)
    if shapes != ((None, dimension), (None, classes)):
        raise UserError(
            f"--head {path}: takes and gives {shapes[0]} and {shapes[1]}; this table needs "
            f"{(None, dimension)} and {(None, classes)}"
        )
    return head
