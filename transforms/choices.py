"""What a user can choose: the words of each option, the defaults, and their checks.

Each is stated here only.

Imports nothing heavy, so that the command line can show them in its help.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

from transforms.errors import UserError
from transforms.mean_std import Colors, check_colors, check_pair, mean_std_text

ResizeMode = Literal["squash", "crop", "squash-bicubic", "crop-bicubic"]
EngineName = Literal["auto", "tensorflow", "openvino", "xla"]
Precision = Literal["float32", "bfloat16", "float16"]
Pooling = Literal["avg", "max", "cls"]
Normalize = Literal["none", "l2"]
Scores = Literal["softmax", "sigmoid", "none"]
ValueMode = Literal["caffe", "tf", "torch", "none", "unit", "lite"]
Layout = Literal["auto", "nchw", "nhwc"]

MIB = 1 << 20
# A worker holds the bytes of a file: a JPEG of 100 megapixels has 20 to 60 MB.
MAX_IMAGE_BYTES = 100 * MIB
# Above every full-frame camera, which has 61 megapixels.
MAX_PIXELS = 100_000_000


def words(kind: Any) -> tuple[str, ...]:
    """Return the words of one of the types above."""
    return get_args(kind)


def check_word(option: str, value: str | None, kind: Any) -> None:
    """Check that ``value`` is a word of ``kind``.

    Raises:
        UserError: It is not.
    """
    if value not in words(kind):
        # The quotes show a space at the end.
        raise UserError(f"--{option} {value!r}: must be {' or '.join(words(kind))}")


def check_number(option: str, value: object, whole: bool) -> None:
    """Check that ``value`` is a number.

    Args:
        option: Name of the option.
        value: What was given.
        whole: Whether it must be an integer.

    Raises:
        UserError: It is not.
    """
    allowed = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or value != value:
        kind = "a whole number" if whole else "a number"
        raise UserError(f"--{option.replace('_', '-')} {value!r}: must be {kind}")


def check_min(option: str, value: float | None, least: float, whole: bool = True) -> None:
    """Check that a number is at least the minimum, if it was given.

    Raises:
        UserError: It is too small, or no number.
    """
    if value is None:
        return
    check_number(option, value, whole)
    if value < least:
        raise UserError(f"--{option.replace('_', '-')} {value}: must be at least {least}")


def take_paths(options: object, *names: str) -> None:
    """Turn the ``Path`` objects in fields of a frozen dataclass into text.

    Args:
        options: The dataclass.
        *names: Fields that hold a path, a URL, a word or None.

    Raises:
        UserError: A field holds something else.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None:
            object.__setattr__(options, name, path_text(name, value))


def path_text(name: str, value: object) -> str:
    """Return a path or URL as text.

    Raises:
        UserError: It is neither text nor a ``Path``.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise UserError(f"{name} {value!r}: must be text or a Path")
    return text


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Which network makes the vectors, and how.

    Raises:
        UserError: A word that is not allowed, or a number that is too small. What needs a look at
            the network or its files is checked by ``transforms.backbones.resolve``.
    """

    # A name of the table, or a path to a .keras, .h5 or .onnx file or a SavedModel folder.
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"  # imagenet, random, or a path
    # Path of a text file with one label per line.
    labels: str | None = None
    # Path of a head that 'image-features train' saved: it gives the labels instead.
    head: str | None = None
    # Path of a text file with one class per line. A preset of KerasHub compares images with them.
    classes: str | None = None
    prompt: str = "a photo of a {}"  # what is said of a class
    feature_layer: str | None = None
    # How a map or tokens become a vector. None: avg for a map; asked for where there are tokens.
    pooling: Pooling | None = None
    input_size: int | None = None  # height and width, pixels
    # Value range of a custom model's input: one of VALUE_MODES.
    preprocess: str | None = None
    # Or this mean and deviation of x/255.
    mean: Colors | None = None
    std: Colors | None = None
    # Order of the axes of an ONNX file's input; auto: the axis of length 3 is that of the colors.
    layout: Layout = "auto"
    normalize: Normalize = "none"
    top_k: int = 5
    # Whether to load a custom model that carries code.
    allow_code: bool = False
    # What to apply to the outputs of a custom model; None: find out from its graph.
    scores: Scores | None = None
    # Where buckets are, for a weights file in a bucket.
    stores: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        take_paths(
            self, "backbone", "weights", "labels", "head", "classes", "feature_layer", "preprocess"
        )
        if self.preprocess is not None:
            check_word("preprocess", self.preprocess, ValueMode)
        self._check_colors()
        check_word("layout", self.layout, Layout)
        if self.pooling is not None:
            check_word("pooling", self.pooling, Pooling)
        check_word("normalize", self.normalize, Normalize)
        if self.scores is not None:
            check_word("scores", self.scores, Scores)
        check_number("top_k", self.top_k, whole=True)
        if self.top_k < 0:
            raise UserError(f"--top-k {self.top_k}: must be 0 (no labels) or more")
        check_min("input_size", self.input_size, 1)
        for name in ("head", "classes"):
            if getattr(self, name) is not None:
                self._check_alone(name)

    def _check_alone(self, option: str) -> None:
        """Check that no other option asks for labels of another kind, or for none."""
        no_labels = None if self.top_k else 0
        others = {"labels": self.labels, "scores": self.scores, "top-k": no_labels}
        if option == "classes":
            others["head"] = self.head
        for name, value in others.items():
            if value is not None:
                raise UserError(
                    f"--{name} {value}: with --{option}, that gives the labels and their scores; "
                    "leave one of the two options out"
                )

    def _check_colors(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, check_colors(name, getattr(self, name)))
        check_pair(self.mean, self.std, self.preprocess)

    @property
    def pool(self) -> Pooling:
        """How a map becomes a vector."""
        return self.pooling or "avg"

    @property
    def value_range(self) -> str | None:
        """The value range that was asked for: a mode, or a mean and a deviation as text."""
        if self.mean is None or self.std is None:
            return self.preprocess
        return mean_std_text(self.mean, self.std)


def split_resize(mode: ResizeMode) -> tuple[str, str]:
    """Return how an image fits, squash or crop, and the kernel, bilinear or bicubic."""
    fit, _, kernel = mode.partition("-")
    return fit, kernel or "bilinear"
