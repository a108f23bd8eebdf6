"""Turn decoded pixels into a network's input, by a chain of small ops.

An op is a frozen dataclass that is called with one image and returns the next one. It takes a NumPy
array or a TensorFlow tensor, eager or inside ``tf.data`` and ``tf.function``. Its ``repr`` is its
line in the recipe:

>>> Chain(Resize(224, 224), ValueRange("tf"))
resize(224x224, squash, bilinear) | value_range(tf)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, get_args

import numpy as np
from cykooz_resizer import (
    CropBox,
    FilterType,
    ImageData,
    PixelType,
    ResizeAlg,
    ResizeOptions,
    Resizer,
)

from transforms.choices import ResizeMode, ValueMode, split_resize
from transforms.mean_std import read_mean_std

# From keras.applications.imagenet_utils.preprocess_input of Keras 3.15.
_CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)

# One resizer per thread: its documentation does not say that threads may share one.
_local = threading.local()


class Op(Protocol):
    """One step of preprocessing; ``Any`` stands for an array or a tensor."""

    def __call__(self, image: Any) -> Any: ...


@dataclass(frozen=True, init=False, repr=False)
class Chain:
    """Run ops one after the other; an empty chain changes nothing."""

    ops: tuple[Op, ...]

    def __init__(self, *ops: Op) -> None:
        object.__setattr__(self, "ops", ops)

    def __call__(self, image: Any) -> Any:
        """Run the ops from left to right."""
        for op in self.ops:
            image = op(image)
        return image

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.ops))


@dataclass(frozen=True, repr=False)
class Resize:
    """Resize uint8 [H, W, 3] to uint8 [height, width, 3], antialiased.

    ``squash`` takes the whole picture and changes its aspect ratio. ``crop`` takes its largest
    centred part of the right aspect ratio, in whole pixels as KerasHub's converters and
    ``keras.utils.load_img(keep_aspect_ratio=True)`` do. Both are bilinear; ``squash-bicubic`` and
    ``crop-bicubic`` are bicubic, with a = -0.5 as Pillow and TensorFlow have it.

    Raises:
        ValueError: For a size below 1, an unknown mode, or pixels that are not uint8 [H, W, 3].
    """

    height: int
    width: int
    mode: ResizeMode = "squash"
    # Height and width of the picture in its file, of which the pixels are a smaller version.
    whole: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"cannot resize to {self.height}x{self.width}; both sides must be at least 1"
            )
        _check_choice("resize", self.mode, get_args(ResizeMode))

    def __call__(self, image: Any) -> Any:
        """Resize one image; set the static shape of a tensor."""
        if isinstance(image, np.ndarray):
            return self._resize(image)
        import tensorflow as tf

        resized = tf.numpy_function(self._resize, [image], tf.uint8, stateful=False)
        return tf.ensure_shape(resized, (self.height, self.width, 3))

    def _resize(self, pixels: np.ndarray) -> np.ndarray:
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 3
            or pixels.shape[2] != 3
            or 0 in pixels.shape
        ):
            raise ValueError(
                f"resize takes uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}"
            )
        source = ImageData(pixels.shape[1], pixels.shape[0], PixelType.U8x3, _bytes_of(pixels))
        result = ImageData(self.width, self.height, PixelType.U8x3)
        _resizer().resize(source, result, self._options(*pixels.shape[:2]))
        return np.ndarray((self.height, self.width, 3), np.uint8, result.get_buffer())

    def _options(self, height: int, width: int) -> ResizeOptions:
        fit, kernel = split_resize(self.mode)
        if fit == "squash":
            return ResizeOptions(_kernel(kernel))
        rows, columns = self.whole or (height, width)
        # At least one pixel of each side.
        across = max(1, min(columns, rows * self.width // self.height))
        down = max(1, min(rows, columns * self.height // self.width))
        x, y = width / columns, height / rows
        left, top = (columns - across) // 2 * x, (rows - down) // 2 * y
        return ResizeOptions(_kernel(kernel), crop_box=CropBox(left, top, across * x, down * y))

    def __repr__(self) -> str:
        fit, kernel = split_resize(self.mode)
        return f"resize({self.height}x{self.width}, {fit}, {kernel})"


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What a value range does to RGB 0..255, in this order; None leaves a step out."""

    # Blue, green, red.
    reverse: bool = False
    divisor: float = 1.0
    mean: Any = None  # is subtracted: a number, or float32 [3]
    std: Any = None  # divides: a number, or float32 [3]


_STEPS = {
    "caffe": Steps(reverse=True, mean=_CAFFE_MEAN_BGR),
    "tf": Steps(divisor=127.5, mean=1.0),
    "torch": Steps(divisor=255.0, mean=_TORCH_MEAN, std=_TORCH_STD),
    "unit": Steps(divisor=255.0),
    "lite": Steps(mean=127.0, std=128.0),
    "none": Steps(),
}


@dataclass(frozen=True, repr=False)
class ValueRange:
    """Convert RGB 0..255 [..., 3] to float32 in the range that the weights were trained with.

    The input is never changed in place.

    | mode | result |
    |---|---|
    | caffe | BGR minus the ImageNet mean 103.939, 116.779, 123.68 |
    | tf | x / 127.5 − 1 |
    | torch | (x / 255 − mean) / std, mean .485 .456 .406, std .229 .224 .225 |
    | none | x |
    | unit | x / 255 |
    | lite | (x − 127) / 128 |
    | mean A,B,C std D,E,F | (x / 255 − mean) / std, of red, green, blue |

    Raises:
        ValueError: For an unknown mode.
    """

    mode: str

    def __post_init__(self) -> None:
        if read_mean_std(self.mode) is None:
            _check_choice("value range", self.mode, get_args(ValueMode))

    @property
    def steps(self) -> Steps:
        """What is done to each pixel."""
        given = read_mean_std(self.mode)
        if given is None:
            return _STEPS[self.mode]
        mean, std = (np.array(colors, np.float32) for colors in given)
        return Steps(divisor=255.0, mean=mean, std=std)

    def __call__(self, image: Any) -> Any:
        """Convert one image or a batch of them."""
        x, steps = _as_float32(image), self.steps
        if steps.reverse:
            x = x[..., ::-1]
        if steps.divisor != 1:
            x = x / steps.divisor
        if steps.mean is not None:
            x = x - steps.mean
        return x if steps.std is None else x / steps.std

    def __repr__(self) -> str:
        return f"value_range({self.mode})"


def image_chain(
    size: tuple[int, int], resize: ResizeMode, whole: tuple[int, int] | None = None
) -> Chain:
    """Return the ops that workers run on the CPU: uint8 [H, W, 3] → uint8 [*size, 3].

    The exported network applies the value range, so that pixels stay bytes until then.

    Args:
        size: Height and width.
        resize: How to change the aspect ratio.
        whole: Height and width of the picture, if it was decoded smaller.
    """
    return Chain(Resize(*size, resize, whole))


def _check_choice(what: str, seen: str, allowed: tuple[str, ...]) -> None:
    if seen not in allowed:
        raise ValueError(f"unknown {what} mode {seen!r}; choose one of {', '.join(allowed)}")


def _as_float32(image: Any) -> Any:
    if isinstance(image, np.ndarray):
        # This copies float32 too.
        return image.astype(np.float32)
    if image.dtype == "float32":
        return image
    import tensorflow as tf

    return tf.cast(image, tf.float32)


def _resizer() -> Resizer:
    if not hasattr(_local, "resizer"):
        _local.resizer = Resizer()
    return _local.resizer


def _bytes_of(pixels: np.ndarray) -> bytes:
    # A picture that was resized before is a view of bytes: they need no copy.
    base = pixels.base
    if isinstance(base, bytes) and len(base) == pixels.nbytes and pixels.flags.c_contiguous:
        return base
    return pixels.tobytes()


@cache
def _kernel(name: str) -> ResizeAlg:
    # Catmull and Rom's is the bicubic one with a = -0.5.
    return ResizeAlg.convolution(
        FilterType.catmull_rom if name == "bicubic" else FilterType.bilinear
    )
