"""The network of a table's recipe with a head, ready to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transforms.backbones import BackboneConfig, Resolved, resolve
from transforms.backbones.spec import BLOCK5_POOL, NETWORK_FIELDS, POOL, POOL_NORM
from transforms.backbones.trainable import open_trainable
from transforms.backbones.trainable import unfreeze as unfreeze_layers
from transforms.choices import Precision
from transforms.errors import UserError
from transforms.mean_std import value_options
from transforms.recipe import Recipe, differences
from transforms.storage.settings import Stores

# The labels of the network are replaced by those of the head.
_VECTOR_FIELDS = tuple(name for name in NETWORK_FIELDS if name not in ("labels", "top_k"))


@dataclass(frozen=True, slots=True)
class Base:
    """A network up to its vector, ready to be trained."""

    model: Any  # keras.Model: float32 [N, H, W, 3] → vectors float32 [N, D]
    learning: list[str]  # names of the layers that are not frozen

    @property
    def feature_layer(self) -> str:
        """The layer whose output is the vector."""
        return str(self.model.layers[-1].name)

    @property
    def dimension(self) -> int:
        """Numbers in the vector."""
        return int(self.model.output.shape[-1])


def network_of(
    recipe: Recipe, backbone: str | None = None, weights: str | None = None, stores: Stores = ()
) -> Resolved:
    """Find the network that made a table's vectors.

    Args:
        recipe: Of the table.
        backbone: Where the user's own model lies, which a recipe only names.
        weights: Where a file of weights lies, which a recipe only names.
        stores: Where buckets are.

    Raises:
        UserError: The network is not found, or another one was given.
    """
    words: dict[str, Any] = dict(recipe)
    own = words["weights"] == "own"
    if own and backbone is None:
        raise UserError(
            f"the table's vectors come from your own model {words['backbone']}; say by --backbone "
            "where it lies"
        )
    if not own and weights is None and words["weights"] not in ("imagenet", "random"):
        raise UserError(
            f"the weights of the table's network come from {words['weights']}; say by --weights "
            "where it lies"
        )
    height, width = words["input_size"].split("x")
    resolved = resolve(
        BackboneConfig(
            backbone=backbone or words["backbone"],
            weights="imagenet" if own else weights or words["weights"],
            feature_layer=_layer(words["feature_layer"]),
            pooling=words["pooling"],
            input_size=int(height) if height == width else None,
            **(value_options(words["preprocess"]) if own else {}),
            normalize=words["normalize"],
            top_k=0,
            stores=stores,
        )
    )
    fields = resolved.recipe_fields
    changes = differences(
        {name: recipe.get(name) for name in _VECTOR_FIELDS},
        {name: fields.get(name) for name in _VECTOR_FIELDS},
    )
    if changes:
        raise UserError(
            f"this is not the network of the table: {'; '.join(changes)}. Give the one that made "
            "its vectors, by --backbone or --weights"
        )
    return resolved


def _layer(stated: str) -> str | None:
    """Return the layer that a recipe names; None for a network's own."""
    own = stated in (POOL, POOL_NORM, BLOCK5_POOL) or stated.startswith("input of ")
    return None if own else stated


def open_base(resolved: Resolved, choice: str) -> Base:
    """Build a network up to its vector, and let its last layers learn.

    Args:
        resolved: The network.
        choice: Of ``transforms.backbones.trainable.unfreeze``.

    Raises:
        UserError: There is no such layer.
    """
    model = open_trainable(resolved)
    return Base(model, unfreeze_layers(model, choice))


def with_head(base: Base, head: Any, precision: Precision) -> Any:
    """Put a head on a network.

    Args:
        base: The network.
        head: A ``keras.Model`` from vectors [N, D] to scores [N, classes]. All of it learns.
        precision: Of the network's arithmetic; its variables, its vector and the head stay float32.

    Returns:
        A ``keras.Model``, float32 [N, H, W, 3] in the network's value range → scores.
    """
    import keras

    if precision != "float32":
        _set_precision(base.model, f"mixed_{precision}")
    return keras.Model(base.model.input, head(base.model.output))


def to_float32(base: Base) -> None:
    """Let a network compute in float32 again, as it will be saved."""
    _set_precision(base.model, "float32")


def _set_precision(model: Any, policy: str) -> None:
    for layer in model._flatten_layers(include_self=False):
        if layer is not model.layers[-1]:
            layer.dtype_policy = policy


def precision_here() -> Precision:
    """Return the fastest precision for training: half on a GPU with units for it, else float32."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        capability = tf.config.experimental.get_device_details(gpu).get("compute_capability")
        if capability and capability >= (8, 0):
            return "bfloat16"
        if capability and capability >= (7, 0):
            return "float16"
    return "float32"
