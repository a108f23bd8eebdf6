"""Which vector a backbone of KerasHub gives, by its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from transforms.choices import Pooling
from transforms.errors import UserError


@dataclass(frozen=True, slots=True)
class Family:
    """How a class of backbones gives a vector."""

    # cls: the first token. tokens: all tokens, pooled. map: a map, pooled. embedding: what the
    # image's tower gives, as it is compared with that of a text.
    gives: Literal["cls", "tokens", "map", "embedding"]
    # Tokens before those of the patches, besides those that the backbone itself states.
    leading: int = 0
    # Whether it can be loaded for another input size than that of its weights.
    any_size: bool = False


# ADD A FAMILY of KerasHub here.
FAMILIES = {
    "ViTBackbone": Family("cls", 1),
    # The second one is that of the distillation.
    "DeiTBackbone": Family("cls", 2),
    "DINOV2Backbone": Family("cls", 1, any_size=True),
    "DINOV3Backbone": Family("cls", 1, any_size=True),
    "CLIPBackbone": Family("embedding"),
    "MetaCLIP2Backbone": Family("embedding"),
    "SigLIPBackbone": Family("embedding"),
    "SwinTransformerBackbone": Family("tokens"),
    "CSPNetBackbone": Family("map"),
    "DenseNetBackbone": Family("map"),
    "EfficientNetBackbone": Family("map"),
    "HGNetV2Backbone": Family("map"),
    "MiTBackbone": Family("map"),
    "MobileNetBackbone": Family("map"),
    "ResNetBackbone": Family("map"),
    "VGGBackbone": Family("map"),
    "XceptionBackbone": Family("map"),
}


def family_of(kind: str, path: object) -> Family:
    """Return the family of a class.

    Raises:
        UserError: It is not known here.
    """
    if kind not in FAMILIES:
        raise UserError(
            f"--backbone hub:{path}: holds {kind or 'no backbone'}, whose vector is not known; "
            f"the known ones are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[kind]


def image_shape(backbone: Any) -> tuple[int | None, int | None]:
    """Return the height and width that a backbone takes; None for any."""
    own = getattr(backbone, "vision_encoder", backbone)
    _, height, width, _ = own.inputs[0].shape
    return height, width


def vectors_of(backbone: Any, pixels: Any, pooling: Pooling | None) -> Any:
    """Return the vectors [N, D] of pixels.

    Args:
        backbone: Of KerasHub, of one of the families.
        pixels: Tensor float32 [N, H, W, 3] in its value range.
        pooling: Of tokens and maps; None for the family's own way.
    """
    import keras
    import tensorflow as tf

    family = FAMILIES[type(backbone).__name__]
    if family.gives == "embedding":
        return backbone.get_vision_embeddings(pixels)
    # Some take a mapping of one name.
    given = keras.tree.pack_sequence_as(backbone.input, [pixels])
    outputs = backbone(given, training=False)
    if isinstance(outputs, dict):
        # The stages of the network, the last one last.
        outputs = list(outputs.values())[-1]
    if family.gives == "cls":
        if pooling in (None, "cls"):
            return outputs[:, 0]
        registers = getattr(backbone, "num_register_tokens", 0)
        outputs = outputs[:, family.leading + registers :]
    reduce = tf.reduce_max if pooling == "max" else tf.reduce_mean
    return reduce(outputs, axis=list(range(1, outputs.shape.rank - 1)))


def pooling_of(family: Family, asked: Pooling | None, path: object) -> Pooling | None:
    """Return how a family's output is pooled; None where it is not.

    Raises:
        UserError: It cannot be done so.
    """
    if family.gives == "embedding":
        if asked:
            raise UserError(
                f"--pooling {asked}: hub:{path} gives one vector by itself; leave the option out"
            )
        return None
    if family.gives == "cls":
        return asked or "cls"
    if asked == "cls":
        raise UserError(f"--pooling cls: hub:{path} has no such token; say avg or max")
    return asked or "avg"
