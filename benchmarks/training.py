"""Measure the training of a head on a million stored vectors, against a bare Keras fit."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.measure import Figure, alternate, median_ratio
from benchmarks.rows import Row, Settings
from benchmarks.tables import DIMENSION, MadeRows, made_classes, made_table

_ROWS, _CLASSES = 1_000_000, 100
_EPOCHS = 4
# What ``train`` takes for so many rows.
_BATCH, _CHECKED = 512, 4096


def training(settings: Settings) -> Iterator[Row]:
    """Measure ``train`` on a table against Keras on arrays in memory: vectors of an epoch."""
    output = settings.folder / f"classes-{_ROWS}"
    if not (output / "features/_delta_log").exists():
        made_table(output, _ROWS, MadeRows(centres=_CLASSES, folders=True))
    cases = {kind: Case(kind, str(output), _ROWS) for kind in ("train_head", "bare_fit")}
    ours, bare = alternate(cases, settings.rounds).values()
    about = f"{_ROWS:,} vectors of {DIMENSION}, {_CLASSES} classes"
    yield Row(f"train {about}: an epoch", _median(ours, "epoch"), "s", detail=_all(ours))
    yield Row(f"train {about}: before the first epoch", _median(ours, "before"), "s")
    peak = max(figure.peak_mib for figure in ours) / 1024
    yield Row(f"train {about}: memory at the most", peak, "GiB", 4, at_most=True)
    detail = f"Keras {_median(bare, 'epoch'):.1f} s an epoch, in {bare[0].peak_mib / 1024:.1f} GiB"
    ratio = median_ratio(ours, bare)
    yield Row(f"train {about}: ours / bare Keras fit", ratio, "×", 0.8, detail=detail)


def _median(figures: list[Figure], name: str) -> float:
    return statistics.median(figure.by_name[name] for figure in figures)


def _all(figures: list[Figure]) -> str:
    return f"the whole training with {_EPOCHS} epochs {_median(figures, 'whole'):.0f} s"


def train_head(case: Case) -> dict[str, float]:
    """Train as the command does; return vectors per second, and seconds by name."""
    from pipeline.training.head import FitOptions
    from pipeline.training.train import TrainOptions
    from pipeline.training.train import train_head as train

    started = time.perf_counter()
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        save, epochs = f"{folder}/head.keras", FitOptions(_EPOCHS)
        options = TrainOptions(case.folder, "folder", save, fit=epochs)
        done = train(options, lambda line: _note(line.startswith("epoch "), ends))
    assert done.evaluation.accuracy > 0.99
    whole = time.perf_counter() - started
    figures = _rates(ends, case.count)
    before = ends[0] - started - figures["epoch"]
    return {**figures, "before": before, "whole": whole}


def _note(is_epoch: bool, ends: list[float]) -> None:
    if is_epoch:
        ends.append(time.perf_counter())


def _rates(ends: list[float], count: int) -> dict[str, float]:
    """Return vectors per second, and seconds an epoch; the first one also builds the graph."""
    epoch = statistics.median(np.diff(ends))
    return {"ours": count / epoch, "epoch": epoch}


def bare_fit(case: Case) -> dict[str, float]:
    """Fit the same layers with Keras on arrays of as many vectors, validation included."""
    import keras

    train = int(0.8 * case.count)
    vectors, labels = _arrays(case.count - case.count // 10)
    inputs = keras.Input((DIMENSION,))
    normalization = keras.layers.Normalization()
    normalization.adapt(vectors[:_CHECKED])
    x = keras.layers.Dropout(0.2)(normalization(inputs))
    model = keras.Model(inputs, keras.layers.Dense(_CLASSES)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])
    ends: list[float] = []
    note: Callable[..., Any] = lambda *_: _note(True, ends)  # noqa: E731
    model.fit(
        vectors[:train],
        labels[:train],
        batch_size=_BATCH,
        epochs=_EPOCHS,
        validation_data=(vectors[train:], labels[train:]),
        validation_batch_size=_CHECKED,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
        verbose=0,
    )
    return _rates(ends, case.count)


def _arrays(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made vectors float32 [count, 1280] and their classes int64 [count]."""
    vectors, labels = np.empty((count, DIMENSION), np.float32), np.empty(count, np.int64)
    step = MadeRows().part_rows
    for start in range(0, count, step):
        end = min(start + step, count)
        vectors[start:end], labels[start:end] = made_classes(end - start, start, _CLASSES)
    return vectors, labels


TRAINING: dict[str, Callable[[Case], dict[str, float]]] = {
    "train_head": train_head,
    "bare_fit": bare_fit,
}
