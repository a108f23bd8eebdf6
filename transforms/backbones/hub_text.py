"""Words → a vector that can be compared with those of images, by a preset's tower for texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.backbones import hub
from transforms.backbones.spec import file_sha256
from transforms.choices import BackboneConfig
from transforms.errors import UserError, first_line
from transforms.names import printable
from transforms.recipe import Recipe
from transforms.storage.settings import Stores

# What turns words into tokens, by the class of the backbone.
_PREPROCESSORS = {
    "CLIPBackbone": "CLIPPreprocessor",
    "MetaCLIP2Backbone": "MetaCLIP2CausalLMPreprocessor",
    "SigLIPBackbone": "SigLIPPreprocessor",
}
# What turns two vectors into a score, by the class of the backbone.
_HEADS = {
    "CLIPBackbone": "clip_head",
    "MetaCLIP2Backbone": "metaclip_2_head",
    "SigLIPBackbone": "siglip_head",
}
# Texts that go through the tower together: 64 of 77 tokens take some 100 MB.
_AT_ONCE = 64


def has_text_tower(recipe: Mapping[str, object]) -> bool:
    """Tell whether the vectors of a recipe are comparable with those of words."""
    return (
        recipe.get("weights") == "own" and recipe.get("feature_layer") == f"{hub.PREFIX}embedding"
    )


def vector_of_words(
    words: str, backbone: str, recipe: Recipe, stores: Stores = ()
) -> npt.NDArray[np.float32]:
    """Return the vector [D] of words.

    Args:
        words: The text.
        backbone: The preset that made the vectors of the images, as ``--backbone`` has it.
        recipe: Of these vectors.
        stores: Where buckets are.

    Raises:
        UserError: It is another preset, cannot be loaded, or has no tokenizer.
    """
    path = hub.local_preset(backbone.removeprefix(hub.PREFIX), stores)
    if not hub.is_preset(path) or hub.files_sha256(path) != recipe["weights_sha256"]:
        raise UserError(
            f"--backbone {backbone}: is not the preset that made the vectors of the table, "
            f"{recipe['backbone']}; give that one"
        )
    vectors, _, _ = text_vectors(path, [words])
    vector: npt.NDArray[np.float32] = vectors[0]
    return vector


def text_vectors(
    path: Path, texts: Sequence[str]
) -> tuple[npt.NDArray[np.float32], float, float | None]:
    """Return the vectors of texts, and how a preset turns cosines into scores.

    Args:
        path: The preset, with a tower for texts.
        texts: N texts.

    Returns:
        The vectors float32 [N, D]; the number that cosines are multiplied with; and the number that
        is added then, None where there is no such number.

    Raises:
        UserError: The preset cannot be loaded, or has no tokenizer.
    """
    backbone = hub.load(path, BackboneConfig()).backbone
    kind = type(backbone).__name__
    rows = []
    for start in range(0, len(texts), _AT_ONCE):
        tokens = _tokens(path, kind, texts[start : start + _AT_ONCE])
        rows.append(np.asarray(backbone.get_text_embeddings(tokens), np.float32))
    head = getattr(backbone, _HEADS[kind])
    bias = getattr(head, "logit_bias", None)
    scale = float(np.exp(np.asarray(head.logit_scale)))
    return np.concatenate(rows), scale, None if bias is None else float(np.asarray(bias))


def other_files_sha256(path: Path) -> str:
    """Return the sha256 of a preset's files besides its weights: the tokenizer is among them."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        if not file.name.startswith("model"):
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _tokens(path: Path, kind: str, texts: Sequence[str]) -> Any:
    """Return the numbers of the tokens, int32 [N, length]."""
    import keras_hub

    try:
        preprocessor = getattr(keras_hub.models, _PREPROCESSORS[kind]).from_preset(str(path))
        # There are no images.
        preprocessor.image_converter = None
        return preprocessor({"prompts": list(texts), "images": None})["token_ids"]
    except Exception as error:  # KerasHub raises many kinds
        raise UserError(
            f"the preset's tower for texts: KerasHub cannot make tokens of words with {path} "
            f"({printable(first_line(error))}); a preset needs the tokenizer that belongs to it, "
            "as save_to_preset writes it for a tokenizer"
        ) from error
