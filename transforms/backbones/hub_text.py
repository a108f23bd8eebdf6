"""Words → a vector that can be compared with those of images, by a preset's tower for texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.backbones import hub
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


def has_text_tower(recipe: Recipe) -> bool:
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
    loaded = hub.load(path, BackboneConfig())
    tokens = _tokens(path, type(loaded.backbone).__name__, words)
    embeddings = np.asarray(loaded.backbone.get_text_embeddings(tokens))
    vector: npt.NDArray[np.float32] = embeddings[0].astype(np.float32)
    return vector


def _tokens(path: Path, kind: str, words: str) -> Any:
    """Return the numbers of the tokens, int32 [1, length]."""
    import keras_hub

    try:
        preprocessor = getattr(keras_hub.models, _PREPROCESSORS[kind]).from_preset(str(path))
        # There are no images.
        preprocessor.image_converter = None
        return preprocessor({"prompts": [words], "images": None})["token_ids"]
    except Exception as error:  # KerasHub raises many kinds
        raise UserError(
            f"--text: KerasHub cannot make tokens of words with {path} "
            f"({printable(first_line(error))}); a preset needs the tokenizer that belongs to it, "
            "as save_to_preset writes it for a tokenizer"
        ) from error
