"""Labels from words: the class whose words are most similar to the image.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
section 3.1. The classes become a head: it compares the image's vector with one of each class, and
turns the cosines into scores as the preset itself does, softmax for CLIP and sigmoid for SigLIP.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.backbones.head import HeadFacts
from transforms.backbones.hub_text import has_text_tower, other_files_sha256, text_vectors
from transforms.backbones.labels import read_labels
from transforms.backbones.spec import Resolved
from transforms.errors import UserError

_PLACE = "{}"


def read_classes(resolved: Resolved) -> HeadFacts:
    """Check the classes that ``--classes`` names, without making vectors of them.

    Raises:
        UserError: The file cannot be read, names one class, or the network has no tower for texts.
    """
    config = resolved.config
    if not has_text_tower(resolved.recipe_fields):
        raise UserError(
            f"--classes {config.classes}: {resolved.name} has no tower for texts; use a preset of "
            "CLIP, MetaCLIP 2 or SigLIP (--backbone hub:PRESET), or train a head"
        )
    if config.prompt.count(_PLACE) != 1:
        raise UserError(
            f"--prompt {config.prompt!r}: must have {_PLACE} once, where the class is put"
        )
    labels = read_labels(str(config.classes), "classes")
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UserError(f"--classes {config.classes}: must name at least 2 classes, each once")
    assert resolved.weights.path
    words = "\n".join((*labels, config.prompt, other_files_sha256(resolved.weights.path)))
    sha256 = hashlib.sha256(words.encode()).hexdigest()
    return HeadFacts(sha256, recipe={}, labels=labels, exclusive=False)


def open_classes(resolved: Resolved) -> Any:
    """Make a head of the classes.

    Imports TensorFlow and KerasHub.

    Returns:
        A ``keras.Model``: float32 [N, D] → scores float32 [N, classes].

    Raises:
        UserError: The preset has no tokenizer.
    """
    path = resolved.weights.path
    assert path
    assert resolved.head
    prompts = [resolved.config.prompt.replace(_PLACE, label) for label in resolved.head.labels]
    vectors, scale, bias = text_vectors(path, prompts)
    return _head(vectors, scale, bias)


def _head(vectors: npt.NDArray[np.float32], scale: float, bias: float | None) -> Any:
    import keras

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    inputs = keras.Input((vectors.shape[1],))
    # SigLIP alone has a bias, and judges each class by itself.
    function = "softmax" if bias is None else "sigmoid"
    dense = keras.layers.Dense(len(vectors), function)
    head = keras.Model(inputs, dense(keras.layers.UnitNormalization()(inputs)))
    dense.set_weights([scale * unit.T, np.full(len(vectors), bias or 0.0, np.float32)])
    return head
