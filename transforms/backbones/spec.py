"""The types of this folder: a backbone of the table, its weights, and the resolved choice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transforms.choices import BackboneConfig, EngineName, Layout, ResizeMode, ValueMode

if TYPE_CHECKING:
    from transforms.backbones.head import HeadFacts

RecipeFields = dict[str, str | int | None]
# Of a recipe: what Resolved.recipe_fields says of the network; the others are of its input
NETWORK_FIELDS = (
    "backbone",
    "weights",
    "weights_sha256",
    "input_size",
    "preprocess",
    "feature_layer",
    "pooling",
    "normalize",
    "top_k",
    "labels",
)
# The same, where labels come from a head.
HEAD_FIELD = "head"

# What becomes the pooled vector by default: the output of Keras' include_top=False, pooling=avg (or
# max). The feature map that the top's global pooling takes
POOL = "pool"
# The same, and the top's LayerNormalization after it
POOL_NORM = "pool+norm"
# VGG's last feature map: its top flattens, and has no global pooling
BLOCK5_POOL = "block5_pool"

# Of ValueRange; what --preprocess of a custom model may say
VALUE_MODES: dict[ValueMode, str] = {
    "none": "0..255 as they are, or the model scales them itself",
    "unit": "x/255",
    "tf": "x/127.5 - 1",
    "torch": "x/255, ImageNet's mean and deviation",
    "caffe": "BGR, ImageNet's mean subtracted",
    "lite": "(x - 127)/128",
}


@dataclass(frozen=True, slots=True)
class Backbone:
    """One row of the table: a network, how to feed it, and which vector it gives."""

    name: str  # Keras' own class name
    # Module of keras.applications with the family's preprocess_input.
    module: str
    size: int  # height and width of its input, pixels
    mode: ValueMode  # value range of its input
    feature: str  # POOL, POOL_NORM or BLOCK5_POOL
    dimension: int  # numbers in the vector
    # In millions, with the top for 1000 classes.
    parameters: float
    min_size: int = 32
    # "embedded" (in a Python package) or "keras" (downloaded by Keras).
    weights: str = "keras"

    @property
    def fixed_top(self) -> bool:
        """Whether labels exist at the default size only, because the top flattens the map."""
        return self.feature == BLOCK5_POOL

    @property
    def rescaled_after_normalization(self) -> bool:
        """Whether Keras builds a layer for weights="imagenet" that it omits for a path or None.

        EfficientNet v1 divides by the deviation a second time, by Rescaling(1 / sqrt(deviation)):
        keras/src/applications/efficientnet.py, and github.com/tensorflow/tensorflow/issues/49930.
        """
        return self.module == "efficientnet"


@dataclass(frozen=True, slots=True)
class Weights:
    """Which numbers fill the network."""

    # "imagenet", "random", "own" (inside a custom model's file), or the file's name.
    word: str
    # Sha256 of the file or of a SavedModel's sorted contents, or "random-seed-0".
    sha256: str
    path: Path | None = None
    # Classes of the top; 0 for a file without a top.
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Resolved:
    """A choice that was checked: all that an export needs, and what the recipe says of it."""

    config: BackboneConfig
    # The backbone's name in the table, or the custom model's file name.
    name: str
    backbone: Backbone | None  # None for a custom model
    weights: Weights
    labels: tuple[str, ...] | None
    # "imagenet", or the sha256 of the label lines.
    labels_id: str | None
    input_size: tuple[int, int]  # height, width
    preprocess: str  # of transforms.preprocess.ValueRange
    # POOL, POOL_NORM, BLOCK5_POOL, or the name of a layer (in a SavedModel: of an operation).
    feature_layer: str
    dimension: int
    # How the model was trained to see images; None where any way will do.
    resize: ResizeMode | None = None
    # Why --resize has to be given; "" where it has not.
    resize_needed: str = ""
    # Gives the labels, instead of the network's own top.
    head: HeadFacts | None = None
    # Order of the axes of an ONNX file's input; None for any other network.
    layout: Layout | None = None
    # What the user should know; resolve logs these as warnings.
    notes: tuple[str, ...] = ()

    @property
    def engines(self) -> tuple[EngineName, ...]:
        """The engines that can run it."""
        return ("openvino",) if self.layout else ("tensorflow", "openvino", "xla")

    @property
    def top_k(self) -> int:
        """Labels an image: as many as asked for and as there are."""
        return min(self.config.top_k, len(self.labels or ()))

    @property
    def recipe_fields(self) -> RecipeFields:
        """What the recipe says of the backbone, flat."""
        scores: RecipeFields = (
            {"scores": self.config.scores} if self.config.scores and self.top_k else {}
        )
        head: RecipeFields = {HEAD_FIELD: self.head.sha256} if self.head else {}
        layout: RecipeFields = {"layout": self.layout} if self.layout else {}
        return (scores | head | layout) | {
            "backbone": self.name,
            "weights": self.weights.word,
            "weights_sha256": self.weights.sha256,
            "input_size": f"{self.input_size[0]}x{self.input_size[1]}",
            "preprocess": self.preprocess,
            "feature_layer": self.feature_layer,
            "pooling": self.config.pool,
            "normalize": self.config.normalize,
            "top_k": self.top_k,
            "labels": self.labels_id if self.top_k else None,
        }


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
