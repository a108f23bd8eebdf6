"""Train a head on the vectors of a table, measure it, and save it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.tables import Tables
from pipeline.training import baselines
from pipeline.training.examples import SIDES, Examples, about, read_examples
from pipeline.training.head import FitOptions, Head, Logs, fit
from pipeline.training.metrics import Evaluation, best_temperature
from pipeline.training.page import page
from pipeline.training.save import (
    check_path,
    companions,
    encode_csv,
    encode_keras,
    write_together,
)
from pipeline.training.vectors import Collected, collect
from transforms.backbones.head import HeadFacts, encode
from transforms.names import printable
from transforms.recipe import Recipe
from transforms.storage import open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
_SHOWN = 5
# Rows for validation that the temperature is told from, and numbers of their logits.
_ROWS, _NUMBERS = 20_000, 20_000_000


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What to train a head on, and where to save it."""

    output: str
    labels: str  # folder, column:NAME or csv:FILE
    save: str  # path of head.keras
    table: str = ""
    # A carried column that holds train, validation or test; None: the bytes of each image decide.
    split_column: str | None = None
    fit: FitOptions = field(default_factory=FitOptions)
    stores: Stores = ()


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A head that was saved."""

    path: Path  # of head.keras
    classes: tuple[str, ...]
    rows: tuple[int, ...]  # for training, validation and test
    history: Sequence[Logs]
    evaluation: Evaluation  # of the rows of the test
    baselines: baselines.Baselines | None  # None without rows for the test
    lines: tuple[str, ...]  # the figures as text


def train_head(
    options: TrainOptions,
    say: Callable[[str], None] = lambda line: None,
    on_step: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a head on the vectors of the newest version of a table, and save it.

    Reads one version: a run that publishes meanwhile changes nothing.

    Args:
        options: What to train on.
        say: Called with a line for each epoch, and with the figures of the test.
        on_step: Called after each step with the numbers of steps done and of all.

    Raises:
        UserError: No run has published there, the labels cannot be used, or the head cannot be
            saved.
        Damaged: A part of the table is missing, or does not hold what was written.
        StorageError: The output cannot be read.
    """
    path = check_path(options.save)
    storage = open_storage(options.output, options.stores)
    features = Tables.published(storage, options.table).features
    examples = read_examples(features, options.labels, options.split_column)
    recipe = features.recipe() or {}
    say(about(examples, str(features.version)))
    start = time.monotonic()
    with collect(features, examples, options.fit.seed) as data:
        targets, most = examples.targets, options.fit.epochs
        head = fit(data, targets, options.fit, lambda logs: say(epoch_line(logs, most)), on_step)
        seconds = time.monotonic() - start
        evaluation = _evaluate(head, data, examples)
        test = data.sides["test"]
        measured = (
            baselines.measure(data.sides["train"], test, targets, options.fit.seed)
            if len(test)
            else None
        )
    lines = _figures(examples, head, evaluation, measured)
    say("\n".join(lines))
    rows = tuple(len(data.sides[side]) for side in SIDES)
    done = Trained(path, targets.classes, rows, head.history, evaluation, measured, lines)
    _save(done, head, recipe, options, {"table_version": features.version, "seconds": seconds})
    return done


def epoch_line(logs: Logs, most: int) -> str:
    """Return the line of an epoch: ``epoch 3/50 loss 0.2231 accuracy 0.9012 …``."""
    words = [f"{name} {logs[name]:.4f}" for name in logs if name != "epoch"]
    return f"epoch {logs['epoch']:.0f}/{most} {' '.join(words)}"


def _evaluate(head: Head, data: Collected, examples: Examples) -> Evaluation:
    """Find the temperature, measure the head on the test, and apply the temperature."""
    targets = examples.targets
    most = min(_ROWS, _NUMBERS // len(targets.classes))
    logits, numbers, count = [], [], 0
    for own, rows in head.apply(data.sides["validation"]):
        logits.append(own)
        numbers.append(rows)
        count += len(rows)
        if count >= most:
            break
    temperature = 1.0
    if logits:
        wanted = targets.of(np.concatenate(numbers)[:most])
        temperature = best_temperature(np.concatenate(logits)[:most], wanted, targets.exclusive)
    evaluation = Evaluation(len(targets.classes), targets.exclusive, temperature)
    for own, rows in head.apply(data.sides["test"]):
        evaluation.add(own, targets.of(rows))
    head.scale(temperature)
    return evaluation


def _figures(
    examples: Examples, head: Head, found: Evaluation, base: baselines.Baselines | None
) -> tuple[str, ...]:
    """Return the figures of a head as lines of text."""
    if base is None:
        return ("no row is for the test: nothing says how good this head is",)
    names = examples.targets.classes
    lines = [
        f"test of {found.rows:,} rows: accuracy {found.accuracy:.4f}, macro F1 "
        f"{found.macro_f1:.4f}",
        f"without a head: the largest class {base.largest:.4f}, {baselines.NEIGHBOURS} nearest "
        f"neighbours {base.neighbours:.4f}{_sampled(base, found.rows)}",
        f"calibration error {found.before.error:.4f}, and {found.after.error:.4f} with the "
        f"temperature {head.temperature:.3g}",
    ]
    confusions = [
        f"{printable(names[true])} → {printable(names[said])} {rows:,}"
        for true, said, rows in found.confusions(_SHOWN)
    ]
    if confusions:
        lines.append(f"largest confusions: {', '.join(confusions)}")
    if found.accuracy <= max(base.largest, base.neighbours) and found.accuracy < 1:
        lines.append("this head is no better than the figures without a head")
    return tuple(lines)


def _sampled(base: baselines.Baselines, rows: int) -> str:
    return f" (of {base.asked:,} rows, chosen at random)" if base.asked < rows else ""


def _save(
    done: Trained, head: Head, recipe: Recipe, options: TrainOptions, more: dict[str, Any]
) -> None:
    """Write the head, its description, the epochs and the report."""
    keras_bytes = encode_keras(head.scores)
    training = {
        **more,
        "labels": options.labels,
        "split": options.split_column or "sha256 of the image, 80/10/10",
        "rows": dict(zip(SIDES, done.rows, strict=True)),
        "options": asdict(options.fit),
        "class_weights": head.weighted,
        "epochs": len(done.history),
        "metrics": _metrics(done),
    }
    facts = HeadFacts(
        sha256=hashlib.sha256(keras_bytes).hexdigest(),
        recipe=recipe,
        labels=done.classes,
        exclusive=done.evaluation.exclusive,
        temperature=head.temperature,
        training=training,
    )
    report = page(f"Head {done.path.name}", done.lines, done.history, done.evaluation, done.classes)
    beside = companions(done.path)
    write_together(
        {
            beside["csv"]: encode_csv(done.history),
            beside["html"]: report.encode(),
            done.path: keras_bytes,
            beside["json"]: encode(facts),
        }
    )


def _metrics(done: Trained) -> dict[str, Any] | None:
    """Return the figures of the test; None without rows for it."""
    found, base = done.evaluation, done.baselines
    if base is None:
        return None
    return {
        "accuracy": found.accuracy,
        "macro_f1": found.macro_f1,
        "calibration_error": {"before": found.before.error, "after": found.after.error},
        "baselines": asdict(base),
    }
