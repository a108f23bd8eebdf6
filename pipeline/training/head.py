"""Train a head: normalisation, dropout and one dense layer on stored vectors, with Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.training.examples import Rows, Targets
from pipeline.training.vectors import Collected, Side
from transforms.backbones.network import import_keras
from transforms.choices import check_min
from transforms.errors import UserError
from transforms.parts.vectors import Vectors

_DROPOUT, _RATE = 0.2, 1e-3
_PATIENCE = 5
# A step has this share of the rows for training, within these limits.
_STEPS, _LEAST, _MOST = 100, 32, 512
# Steps that TensorFlow does without going back to Python.
_AT_ONCE = 16
# Classes are weighted when the largest has this many times the rows of the smallest.
_UNBALANCED = 3.0

Logs = dict[str, float]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to train a head."""

    epochs: int = 50
    batch_size: int | None = None  # None: by the number of rows
    seed: int = 0

    def __post_init__(self) -> None:
        check_min("epochs", self.epochs, 1)
        check_min("batch_size", self.batch_size, 1)
        check_min("seed", self.seed, 0)

    def size(self, rows: int) -> int:
        """Return the number of rows in a batch."""
        power = int(np.log2(max(rows / _STEPS, 1)))
        return self.batch_size or int(np.clip(1 << power, _LEAST, _MOST))


@dataclass(slots=True, eq=False)
class Head:
    """A head in Keras: one model that gives scores, and one that gives their logits."""

    scores: Any  # float32 [N, D] → [N, classes]
    logits: Any  # the same without softmax or sigmoid
    # One line for each epoch.
    history: list[Logs]
    # Whether classes had weights.
    weighted: bool = False
    temperature: float = 1.0

    def scale(self, temperature: float) -> None:
        """Divide all logits by a temperature, inside the weights."""
        dense = self.logits.layers[-1]
        dense.set_weights([array / np.float32(temperature) for array in dense.get_weights()])
        self.temperature = temperature

    def apply(self, side: Side) -> Iterator[tuple[Vectors, Rows]]:
        """Yield logits float32 [B, classes] of a side, with the numbers of their rows."""
        for vectors, rows in side.batches(4096):
            yield self.logits.predict_on_batch(vectors), rows


def fit(
    data: Collected,
    targets: Targets,
    options: FitOptions,
    on_epoch: Callable[[Logs], None],
    on_step: Callable[[int, int], None] | None = None,
) -> Head:
    """Train a head, and give it the weights of the epoch with the smallest validation loss.

    Without rows for validation the loss of the training decides.

    Args:
        data: The vectors.
        targets: The labels of the rows.
        options: How to train.
        on_epoch: Called after each epoch with its losses and accuracies.
        on_step: Called after each step with the numbers of steps done and of all.

    Raises:
        UserError: The loss is not finite.
    """
    keras = import_keras()
    keras.utils.set_random_seed(options.seed)
    head = _build(keras, data, targets)
    train, validation = data.sides["train"], data.sides["validation"]
    weights = class_weights(targets, _rows(train))
    head.weighted = weights is not None
    size = options.size(len(train))
    steps = train.steps(size)
    report = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: _note(head, epoch, logs, on_epoch),
        on_train_batch_end=(lambda step, _: on_step(step + 1, steps)) if on_step else None,
    )
    checked = "val_loss" if len(validation) else "loss"
    stop = keras.callbacks.EarlyStopping(
        checked, mode="min", patience=_PATIENCE, restore_best_weights=True
    )
    head.logits.fit(
        _dataset(train, targets, size, weights, options.seed),
        validation_data=_dataset(validation, targets, 4096) if len(validation) else None,
        epochs=options.epochs,
        callbacks=[report, stop],
        # The batches come in an order of their own.
        shuffle=False,
        verbose=0,
    )
    return head


def _note(head: Head, epoch: int, logs: Any, on_epoch: Callable[[Logs], None]) -> None:
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    line: Logs = {"epoch": epoch + 1} | {name: float(logs[name]) for name in names if name in logs}
    if not np.isfinite(line["loss"]):
        raise UserError(
            f"the loss is {line['loss']} in epoch {epoch + 1}: the vectors hold numbers that are "
            "too large; 'image-features verify' looks for what is wrong"
        )
    head.history.append(line)
    on_epoch(line)


def _build(keras: Any, data: Collected, targets: Targets) -> Head:
    layers = keras.layers
    inputs = keras.Input((data.dimension,), name="embedding")
    normalization = layers.Normalization(name="normalization")
    x = layers.Dropout(_DROPOUT, name="dropout")(normalization(inputs))
    logits = layers.Dense(len(targets.classes), name="logits")(x)
    activation = "softmax" if targets.exclusive else "sigmoid"
    scores = layers.Activation(activation, name="scores")(logits)
    # As ``adapt`` does, which would read all vectors again.
    normalization.set_weights([data.mean, data.variance, np.zeros((), np.int32)])
    normalization.finalize_state()
    model = keras.Model(inputs, logits, name="logits")
    losses = keras.losses
    model.compile(
        keras.optimizers.AdamW(_RATE),
        losses.SparseCategoricalCrossentropy(from_logits=True)
        if targets.exclusive
        else losses.BinaryCrossentropy(from_logits=True),
        weighted_metrics=[],
        metrics=[
            keras.metrics.SparseCategoricalAccuracy("accuracy")
            if targets.exclusive
            else keras.metrics.MeanMetricWrapper(_all_right, "accuracy")
        ],
        # XLA takes seconds to compile, and gains nothing for one layer.
        jit_compile=False,
        steps_per_execution=_AT_ONCE,
    )
    return Head(keras.Model(inputs, scores, name="head"), model, [])


def _all_right(targets: Any, logits: Any) -> Any:
    """Return 1 for each row whose labels are all right, otherwise 0."""
    import tensorflow as tf

    right = tf.equal(targets > 0.5, logits > 0)
    return tf.cast(tf.reduce_all(right, axis=-1), tf.float32)


def _rows(side: Side) -> Rows:
    return np.concatenate([chunk.rows for chunk in side.chunks])


def class_weights(targets: Targets, rows: Rows) -> npt.NDArray[np.float32] | None:
    """Return the weight of each class, so that all count alike: float32 [classes].

    Args:
        targets: The labels.
        rows: The rows for training.

    Returns:
        The weights; None where they are balanced enough, or where a row may have several labels.
    """
    counts = targets.counts(rows)
    if not targets.exclusive or counts.max() <= _UNBALANCED * counts.min():
        return None
    weights: npt.NDArray[np.float32] = (len(rows) / (len(counts) * counts)).astype(np.float32)
    return weights


def _dataset(
    side: Side,
    targets: Targets,
    size: int,
    weights: npt.NDArray[np.float32] | None = None,
    seed: int | None = None,
) -> Any:
    """Return a ``tf.data.Dataset`` of one pass: vectors, targets and, if given, weights."""
    import tensorflow as tf

    epoch = iter(range(1 << 62))

    def batches() -> Iterator[tuple[Any, ...]]:
        order = () if seed is None else (seed, next(epoch))
        for vectors, rows in side.batches(size, order):
            wanted = targets.of(rows)
            yield (vectors, wanted) if weights is None else (vectors, wanted, weights[wanted])

    def spec(array: Any) -> Any:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    rows = side.chunks[0].rows[:1]
    kinds = [tf.TensorSpec((None, side.dimension), tf.float32), spec(targets.of(rows))]
    kinds += [] if weights is None else [tf.TensorSpec((None,), tf.float32)]
    dataset = tf.data.Dataset.from_generator(batches, output_signature=tuple(kinds))
    # Keras warns of a dataset whose end it does not know.
    return dataset.apply(tf.data.experimental.assert_cardinality(side.steps(size))).prefetch(2)
