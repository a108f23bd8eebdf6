"""The parts of an unfreezing, on a small network and a few made pictures."""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.training.unfreeze.augment import Examples, augment, batches
from pipeline.training.unfreeze.checkpoint import CHECKPOINT, load_state
from pipeline.training.unfreeze.fit import Data, FitOptions, best_epoch, fit
from pipeline.training.unfreeze.network import Base, to_float32, with_head
from pipeline.training.unfreeze.workspace import workspace
from tests.helpers.nets import SIZE
from transforms.backbones.network import import_keras
from transforms.backbones.trainable import unfreeze
from transforms.errors import UserError


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Pictures of two kinds: bright above, or bright below."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 120, (40, SIZE, SIZE, 3), np.uint8)
    kinds = np.arange(40) % 2
    pixels[kinds == 0, : SIZE // 2] += 120
    pixels[kinds == 1, SIZE // 2 :] += 120
    targets = np.eye(2, dtype=np.float32)[kinds]
    return Examples(pixels, targets, np.ones(40, np.float32), "unit", batch_size=8)


def data_of(examples: Examples) -> Data:
    places = np.arange(40)
    return Data(examples, places[:24], places[24:32], places[32:])


def network() -> tuple[Base, Any]:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, strides=2, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Identity(name="vector")(x)
    model = keras.Model(inputs, x)
    learning = unfreeze(model, "2")
    head_input = keras.Input(model.output_shape[1:])
    head = keras.Model(head_input, layers.Dense(2, "softmax")(head_input), name="head")
    return Base(model, learning), head


def test_augmentation_is_decided_by_seed_and_step(examples: Examples) -> None:
    import tensorflow as tf

    pixels = tf.cast(examples.pixels[:8], tf.float32)
    one, same, other = (augment(pixels, 5, tf.constant(s, tf.int64)).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 1
    assert one.shape == pixels.shape
    assert (one.min() >= 0, one.max() <= 255) == (True, True)
    # Each image of a batch is changed by itself.
    alike = augment(tf.repeat(pixels[:1], 8, axis=0), 5, tf.constant(1, tf.int64)).numpy()
    assert min(np.abs(alike[0] - image).mean() for image in alike[1:]) > 1


def test_augmentation_flips_and_keeps_the_picture(examples: Examples) -> None:
    import tensorflow as tf

    row = np.linspace(50, 200, SIZE, dtype=np.float32)
    ramp = np.tile(row[None, None, :, None], (64, SIZE, 1, 3))
    changed = augment(tf.constant(ramp), 1, tf.constant(0, tf.int64)).numpy()
    rising = changed[:, SIZE // 2, -1, 0] > changed[:, SIZE // 2, 0, 0]
    assert 16 < rising.sum() < 48
    assert np.abs(changed.mean(axis=(1, 2, 3)) - 125).max() < 50


def test_an_epoch_has_each_image_once_in_an_order_of_its_own(examples: Examples) -> None:
    places = np.arange(3, 30)
    passes = [
        np.concatenate([targets for _, targets, _ in batches(examples, places, seed)])
        for seed in (1, 1, 2)
    ]
    assert len(passes[0]) == 27
    np.testing.assert_array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[0], passes[2])
    plain = np.concatenate([pixels for pixels, _, _ in batches(examples, places)])
    np.testing.assert_allclose(plain, examples.pixels[3:30] / np.float32(255), rtol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_network_learns_in_each_precision_and_is_saved_in_float32(
    examples: Examples, tmp_path: Path, precision: Any
) -> None:
    base, head = network()
    norm = base.model.get_layer("norm")
    statistics = [np.array(weight) for weight in norm.weights]
    model = with_head(base, head, precision)
    assert base.model.get_layer("first").compute_dtype == precision
    state = fit(model, data_of(examples), FitOptions(3, 0.01), tmp_path, lambda _: None)
    losses = [line["loss"] for line in state.history[1:]]
    assert losses[-1] < 0.7 * losses[0]
    for before, after in zip(statistics, norm.weights, strict=True):
        np.testing.assert_array_equal(before, np.array(after))
    to_float32(base)
    import keras

    keras.Model(model.input, model.output).save(tmp_path / "model.keras")
    saved = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in saved._flatten_layers()} == {"float32"}
    pixels = examples.pixels[:4] / np.float32(255)
    np.testing.assert_allclose(saved(pixels), model(pixels, training=False), atol=1e-6)


def test_a_training_that_makes_it_worse_changes_nothing(examples: Examples, tmp_path: Path) -> None:
    base, head = network()
    model = with_head(base, head, "float32")
    (tmp_path / "wrong").mkdir()
    fit(model, data_of(examples), FitOptions(3, 0.01), tmp_path, lambda _: None)
    before = [np.array(variable) for variable in model.variables]
    swapped = Examples(examples.pixels, examples.targets.copy(), examples.weights, "unit", 8)
    swapped.targets[:24] = 1 - swapped.targets[:24]
    state = fit(model, data_of(swapped), FitOptions(1, 0.01), tmp_path / "wrong", lambda _: None)
    assert best_epoch(state)["epoch"] == 0
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, np.array(other))


def test_a_loss_that_is_not_finite_is_one_line(examples: Examples, tmp_path: Path) -> None:
    base, head = network()
    model = with_head(base, head, "float32")
    head.layers[-1].bias.assign([np.nan, 0])
    with pytest.raises(UserError, match="the loss of epoch 1 is nan; give a smaller --rate"):
        fit(model, data_of(examples), FitOptions(1, 0.01), tmp_path, lambda _: None)


def test_a_damaged_state_is_started_anew(
    examples: Examples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base, head = network()
    model = with_head(base, head, "float32")
    first = fit(model, data_of(examples), FitOptions(1, 0.01), tmp_path, lambda _: None)
    path = tmp_path / CHECKPOINT
    state = load_state(path)
    assert state
    assert state.history == first.history
    content = bytearray(path.read_bytes())
    for damage in (b"", bytes(content[: len(content) // 2]), b"PK\x03\x04" * 9):
        path.write_bytes(damage)
        assert load_state(path) is None
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    seen: list[float] = []
    data, options = data_of(examples), FitOptions(1, 0.01)
    base, head = network()
    model = with_head(base, head, "float32")
    with caplog.at_level(logging.WARNING):
        fit(model, data, options, tmp_path, lambda line: seen.append(line["epoch"]))
    assert seen == [0, 1]
    assert "is damaged; the training starts from its first epoch" in caplog.text


def test_one_process_at_a_time_trains_a_model(tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    with workspace(model, {"seed": 1}) as folder:
        (folder / "pixels.npy").write_bytes(b"1")
        with (
            pytest.raises(UserError, match=r"another process trains in .*model\.keras\.training"),
            workspace(model, {"seed": 1}),
        ):
            pytest.fail("two at once")
        assert (folder / "pixels.npy").exists()
    assert list(tmp_path.iterdir()) == []


def _begin(model: Path, settings: dict[str, int], kept: bool) -> None:
    """Begin a training, write files, and fail."""
    with suppress(KeyError), workspace(model, settings) as folder:
        assert (folder / "pixels.npy").exists() is kept
        for name in ("pixels.npy", ".tmp-1-checkpoint.npz", "mine.txt"):
            (folder / name).write_bytes(b"1")
        raise KeyError


def test_other_settings_discard_what_was_begun_and_foreign_files_stay(tmp_path: Path) -> None:
    model = tmp_path / "model.keras"
    _begin(model, {"seed": 1}, kept=False)
    _begin(model, {"seed": 1}, kept=True)
    _begin(model, {"seed": 2}, kept=False)
    with workspace(model, {"seed": 2}) as folder:
        pass
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UserError, match=r"cannot write .*: Not a directory"),
        workspace(tmp_path / "file/model.keras", {}),
    ):
        pytest.fail("there is no folder")
