"""Train the unfrozen layers, epoch by epoch; a killed training goes on after its last epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.training.unfreeze.augment import Examples, batches
from pipeline.training.unfreeze.checkpoint import (
    CHECKPOINT,
    State,
    assign,
    load_state,
    save_state,
    values_of,
)
from transforms.errors import UserError

_LOG = logging.getLogger(__name__)
# The rate falls to this share of itself, along half a cosine.
_LAST_RATE = 0.1

Places = npt.NDArray[np.int64]
# Called after each epoch, with its line of the history.
OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to train."""

    epochs: int = 5
    # Of the first step; 10 to 100 times smaller than that of a head, as the layers are trained.
    rate: float = 1e-5
    seed: int = 0
    # Whether one label excludes the others (softmax), or each is judged by itself (sigmoid).
    exclusive: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The images of a training, and which of them are for what."""

    examples: Examples
    train: Places
    validation: Places
    test: Places


def fit(model: Any, data: Data, options: FitOptions, folder: Path, call: OnEpoch) -> State:
    """Train a model, and give it the weights of the epoch with the smallest validation loss.

    Epoch 0 is the model as it came: a training that makes it worse changes nothing. Without images
    for validation, the last epoch counts as the best.

    Args:
        model: A ``keras.Model`` from pixels to scores, with its precision set.
        data: The images.
        options: How to train.
        folder: Keeps the state after each epoch, and goes on from one that is there.
        call: Called after each epoch.

    Returns:
        The last state; its history has a line for each epoch.

    Raises:
        UserError: The loss is not finite, the device's memory is too small, or the disk is full.
    """
    _compile(model, data, options)
    state = _resume(model, folder / CHECKPOINT)
    if not state.history:
        test = {f"test_{name}": value for name, value in evaluate(model, data, data.test).items()}
        _after_epoch(model, state, {"epoch": 0, **_validate(model, data), **test})
        call(state.history[0])
    for epoch in range(len(state.history), options.epochs + 1):
        seed = options.seed * 1_000_003 + epoch
        logs = _fit_epoch(model, batches(data.examples, data.train, seed), data, epoch)
        _after_epoch(model, state, {"epoch": epoch, **logs, **_validate(model, data)})
        save_state(state, folder / CHECKPOINT)
        call(state.history[-1])
    assign(model.variables, state.best)
    return state


def best_epoch(state: State) -> dict[str, float]:
    """Return the line of the epoch whose weights the model has."""
    if "val_loss" not in state.history[-1]:
        return state.history[-1]
    return min(state.history, key=lambda line: line["val_loss"])


def evaluate(model: Any, data: Data, places: Places) -> dict[str, float]:
    """Return loss and accuracy of the images as ``extract`` sees them; {} for none."""
    if not len(places):
        return {}
    logs = model.evaluate(batches(data.examples, places), verbose=0, return_dict=True)
    return {name: float(logs[name]) for name in ("loss", "accuracy")}


def _validate(model: Any, data: Data) -> dict[str, float]:
    logs = evaluate(model, data, data.validation)
    return {f"val_{name}": value for name, value in logs.items()}


def _compile(model: Any, data: Data, options: FitOptions) -> None:
    import keras

    steps = -(-len(data.train) // data.examples.batch_size) * options.epochs
    rate = keras.optimizers.schedules.CosineDecay(options.rate, steps, alpha=_LAST_RATE)
    optimizer = keras.optimizers.AdamW(rate)
    half = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    if half:
        # Gradients below 6e-8 would be zero in float16.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    one = options.exclusive
    losses, metrics = keras.losses, keras.metrics
    model.compile(
        optimizer,
        losses.CategoricalCrossentropy() if one else losses.BinaryCrossentropy(),
        metrics=[
            metrics.CategoricalAccuracy("accuracy") if one else metrics.BinaryAccuracy("accuracy")
        ],
        auto_scale_loss=False,
    )
    optimizer.build(model.trainable_variables)


def _resume(model: Any, path: Path) -> State:
    """Give the model and its optimizer the values of a state; return a new one if there is none."""
    state = load_state(path)
    if state is None:
        if path.exists():
            _LOG.warning("%s is damaged; the training starts from its first epoch", path)
        return State()
    assign([*model.variables, *model.optimizer.variables], state.variables)
    return state


def _fit_epoch(model: Any, dataset: Any, data: Data, epoch: int) -> dict[str, float]:
    import tensorflow as tf

    try:
        history = model.fit(dataset, shuffle=False, verbose=0).history
    except tf.errors.ResourceExhaustedError as error:
        size = data.examples.batch_size
        raise UserError(
            f"the device's memory is too small for {size} images at a time; give --batch-size "
            f"{max(size // 2, 1)}, or a smaller --unfreeze"
        ) from error
    logs = {name: float(history[name][0]) for name in ("loss", "accuracy")}
    if not math.isfinite(logs["loss"]):
        raise UserError(
            f"the loss of epoch {epoch} is {logs['loss']}; give a smaller --rate, and start again"
        )
    return logs


def _after_epoch(model: Any, state: State, line: dict[str, float]) -> None:
    """Note an epoch in the state, with the values of all variables."""
    state.history.append(line)
    state.variables = values_of([*model.variables, *model.optimizer.variables])
    if best_epoch(state) is line:
        state.best = values_of(model.variables)
