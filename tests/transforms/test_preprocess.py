"""Run each op eagerly and inside tf.data, and compare with Pillow and Keras."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input
from PIL import Image

from transforms.preprocess import Chain, Resize, ValueRange, image_chain

SAMPLES = Path(skimage.__file__).parent / "data"
PHOTO = Image.open(SAMPLES / "chelsea.png").convert("RGB")  # 451x300
PIXELS = np.asarray(PHOTO)
Run = Callable[[Callable, np.ndarray], np.ndarray]


def eagerly(op: Callable, image: np.ndarray) -> np.ndarray:
    return op(image)


def on_a_tensor(op: Callable, image: np.ndarray) -> np.ndarray:
    return op(tf.constant(image)).numpy()


def in_tf_data(op: Callable, image: np.ndarray) -> np.ndarray:
    (result,) = tf.data.Dataset.from_tensors(image).map(op).as_numpy_iterator()
    return result


def in_tf_function(op: Callable, image: np.ndarray) -> np.ndarray:
    return tf.function(op)(tf.constant(image)).numpy()


RUNS = pytest.mark.parametrize("run", [eagerly, on_a_tensor, in_tf_data, in_tf_function])


def with_pillow(image: Image.Image, op: Resize) -> np.ndarray:
    box = None
    bicubic = op.mode.endswith("bicubic")
    kernel = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    if op.mode.startswith("crop"):
        across = max(1, min(image.width, image.height * op.width // op.height))
        down = max(1, min(image.height, image.width * op.height // op.width))
        left, top = (image.width - across) // 2, (image.height - down) // 2
        box = (left, top, left + across, top + down)
    return np.asarray(image.resize((op.width, op.height), kernel, box=box))


@RUNS
@pytest.mark.parametrize("mode", ["squash", "crop"])
@pytest.mark.parametrize("size", [(224, 224), (100, 331), (600, 500), (1, 1)])
def test_resize_equals_pillows_antialiased_bilinear(
    run: Run, mode: str, size: tuple[int, int]
) -> None:
    op = Resize(*size, mode)
    resized = run(op, PIXELS)
    difference = np.abs(resized.astype(int) - with_pillow(PHOTO, op))
    assert resized.shape == (*size, 3)
    assert resized.dtype == np.uint8
    assert difference.max() <= 1
    assert difference.mean() < 0.4


@pytest.mark.parametrize("mode", ["squash-bicubic", "crop-bicubic"])
@pytest.mark.parametrize("size", [(224, 224), (100, 331), (600, 500), (1, 1)])
def test_bicubic_equals_pillows(mode: str, size: tuple[int, int]) -> None:
    """Both round after the first of two passes, at other places; hence 2 levels more at edges."""
    op = Resize(*size, mode)
    difference = np.abs(op(PIXELS).astype(int) - with_pillow(PHOTO, op))
    assert difference.max() <= 3
    assert difference.mean() < 0.4
    bilinear = Resize(*size, mode.removesuffix("-bicubic"))
    assert size == (1, 1) or (op(PIXELS) != bilinear(PIXELS)).any()
    assert repr(op) == f"resize({size[0]}x{size[1]}, {mode.partition('-')[0]}, bicubic)"


@pytest.mark.parametrize("mode", ["squash", "crop"])
@pytest.mark.parametrize(
    "shape", [(1, 5000), (5000, 1), (1, 1), (2, 3), (224, 224), (3000, 17), (1200, 1801)]
)
def test_resize_of_extreme_shapes(mode: str, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    op = Resize(224, 192, mode)
    assert np.abs(op(noise).astype(int) - with_pillow(Image.fromarray(noise), op)).max() <= 1


def test_a_picture_of_the_right_size_is_unchanged() -> None:
    for mode in ("squash", "crop"):
        assert (Resize(300, 451, mode)(PIXELS) == PIXELS).all()


def test_crop_takes_the_middle_and_squash_everything() -> None:
    thirds = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), 100, axis=1)
    # 100x300 pixels of red, green and blue.
    thirds = np.repeat(thirds, 100, axis=0)
    crop, squash = Resize(60, 60, "crop")(thirds), Resize(60, 60)(thirds)
    assert (
        crop[:, 2:-2] == (0, 255, 0)
        # The kernel reaches over the edge, as Pillow's does.
    ).all()
    assert (squash[:, [2, 30, -2]] == np.eye(3) * 255).all()


def test_crop_is_that_of_keras(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "photo.png")
    for size in ((224, 224), (100, 331), (331, 100), (600, 500)):
        theirs = keras.utils.load_img(
            tmp_path / "photo.png",
            target_size=size,
            interpolation="bilinear",
            keep_aspect_ratio=True,
        )
        difference = np.abs(Resize(*size, "crop")(PIXELS).astype(int) - np.asarray(theirs))
        assert difference.max() <= 1


def test_resize_takes_turned_and_read_only_pixels() -> None:
    turned = np.rot90(PIXELS)
    frozen = np.frombuffer(PIXELS.tobytes(), np.uint8).reshape(PIXELS.shape)
    assert (Resize(90, 60)(turned) == Resize(90, 60)(turned.copy())).all()
    assert (Resize(60, 90)(frozen) == Resize(60, 90)(PIXELS)).all()


def test_resize_in_threads() -> None:
    crops = [PIXELS[: 300 - n, n:] for n in range(64)]
    op = Resize(64, 64)
    with ThreadPoolExecutor(8) as pool:
        for crop, resized in zip(crops, pool.map(op, crops), strict=True):
            assert (resized == op(crop)).all()


def test_tf_data_knows_the_shape_and_sees_the_error() -> None:
    unknown = tf.data.Dataset.from_generator(
        lambda: [PIXELS], output_signature=tf.TensorSpec(None, tf.uint8)
    )
    chain = Chain(Resize(32, 48), ValueRange("caffe"))
    assert unknown.map(chain).element_spec == tf.TensorSpec((32, 48, 3), tf.float32)
    floats = tf.data.Dataset.from_tensors(PIXELS.astype(np.float32)).map(Resize(32, 48))
    with pytest.raises(tf.errors.InvalidArgumentError, match="resize takes uint8"):
        next(iter(floats))


@pytest.mark.parametrize(
    "pixels",
    [PIXELS.astype(np.float32), PIXELS[..., 0], PIXELS[..., :2], PIXELS[None], PIXELS[:0]],
    ids=["float", "gray", "two channels", "batch", "no rows"],
)
def test_resize_refuses_other_arrays(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^resize takes uint8 \[H, W, 3\], not"):
        Resize(8, 8)(pixels)


@RUNS
@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_value_ranges_equal_keras(run: Run, mode: str) -> None:
    result = run(ValueRange(mode), PIXELS)
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        result, preprocess_input(PIXELS.astype(np.float32), mode=mode), atol=1e-5
    )


@RUNS
@pytest.mark.parametrize(
    ("mode", "expected"),
    [("none", [0, 127, 255]), ("unit", [0, 127 / 255, 1]), ("lite", [-127 / 128, 0, 1])],
)
def test_the_other_value_ranges(run: Run, mode: str, expected: list[float]) -> None:
    image = np.array([0, 127, 255], np.uint8)[:, None, None].repeat(3, -1)
    result = run(ValueRange(mode), image)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, 0, 0], expected, atol=1e-6)


@RUNS
@pytest.mark.parametrize("mode", ["caffe", "tf", "torch", "none", "unit", "lite"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_value_range_is_never_applied_in_place(run: Run, mode: str, dtype: type) -> None:
    batch = np.stack([PIXELS[:8, :9], PIXELS[8:16, :9]]).astype(dtype)
    before = batch.copy()
    result = run(ValueRange(mode), batch)
    assert not np.shares_memory(result, batch)
    assert (batch == before).all()
    # A batch gives the same as one image.
    np.testing.assert_allclose(result[1], run(ValueRange(mode), batch[1]), atol=1e-6)


@RUNS
def test_a_chain_runs_from_left_to_right(run: Run) -> None:
    chain = Chain(Resize(40, 50, "crop"), ValueRange("tf"))
    np.testing.assert_allclose(
        run(chain, PIXELS), Resize(40, 50, "crop")(PIXELS) / 127.5 - 1, atol=1e-6
    )


def test_a_chain_reads_as_one_line() -> None:
    assert str(Chain(Resize(224, 224, "squash"), ValueRange("tf"))) == (
        "resize(224x224, squash, bilinear) | value_range(tf)"
    )
    assert repr(image_chain((299, 331), "crop")) == "resize(299x331, crop, bilinear)"


def test_chains_are_values() -> None:
    chain = Chain(Resize(40, 50), ValueRange("tf"))
    assert chain == pickle.loads(pickle.dumps(chain))
    assert hash(chain) == hash(Chain(Resize(40, 50), ValueRange("tf")))
    assert chain != Chain(Resize(50, 40), ValueRange("tf"))
    assert Chain()(PIXELS) is PIXELS


def test_the_cpu_part_stays_in_bytes() -> None:
    result = image_chain((299, 331), "squash")(PIXELS)
    assert (result == Resize(299, 331, "squash")(PIXELS)).all()
    assert result.dtype == np.uint8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize(0, 5), "cannot resize to 0x5; both sides must be at least 1"),
        (
            lambda: Resize(5, 5, "stretch"),
            "unknown resize mode 'stretch'; choose one of squash, crop, squash-bicubic, "
            "crop-bicubic",
        ),
        (
            lambda: ValueRange("keras"),
            "unknown value range mode 'keras'; choose one of caffe, tf, torch, none, unit, lite",
        ),
    ],
)
def test_a_wrong_op_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
