"""Unfreeze a network: from a table and its labels to ``model.keras`` and ``model.json``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.reports.text import size_text
from pipeline.training import head as train
from pipeline.training.examples import about
from pipeline.training.unfreeze.augment import Examples
from pipeline.training.unfreeze.fit import Data, best_epoch, evaluate, fit
from pipeline.training.unfreeze.images import Pixels, prepare
from pipeline.training.unfreeze.network import to_float32, with_head
from pipeline.training.unfreeze.opened import Opened, UnfreezeOptions, open_options
from pipeline.training.unfreeze.save import save_model
from pipeline.training.unfreeze.task import Task, check
from pipeline.training.unfreeze.workspace import workspace
from pipeline.training.vectors import collect
from transforms.backbones.head import load_head
from transforms.backbones.model_json import Description, path_beside
from transforms.names import printable

_LOG = logging.getLogger(__name__)
_SHOWN = 5
# Options that model.json notes.
_NOTED = ("labels", "unfreeze", "epochs", "rate", "batch_size", "seed")

Say = Callable[[str], None]


def unfreeze(options: UnfreezeOptions, say: Say) -> Path:
    """Train the last layers of a table's network on its images.

    A process that is killed goes on after its last epoch when the same call starts again.

    Args:
        options: What to do.
        say: Gets each line of the report.

    Returns:
        Where the model is.

    Raises:
        UserError: The caller can correct something.
        Damaged: The table cannot be read.
    """
    opened = open_options(options)
    base = opened.base
    say(about(opened.examples, str(opened.features.version)))
    say(f"{len(base.learning):,} layers learn, in {opened.precision}: from {base.learning[0]} on")
    with workspace(opened.path, opened.settings) as folder:
        pixels = prepare(opened.task.rows, opened.looks, folder, _progress)
        opened = replace(opened, task=_without_failed(opened.task, pixels, say))
        model = with_head(base, _head(opened, folder), opened.precision)
        facts = _train(model, _data(opened, pixels), opened, folder, say)
        to_float32(base)
        save_model(model, opened.path, folder, partial(_describe, opened, facts))
    size = size_text(opened.path.stat().st_size)
    say(f"saved {opened.path} ({size}) and {path_beside(opened.path).name}")
    return opened.path


def _progress(done: int, total: int, failed: int) -> None:
    _LOG.info("%s / %s images decoded, %s failed", f"{done:,}", f"{total:,}", f"{failed:,}")


def _without_failed(task: Task, pixels: Pixels, say: Say) -> Task:
    """Name the images that failed, and leave them out.

    Raises:
        UserError: A label has no image left to learn from.
    """
    failures = pixels.failures
    if not failures:
        return task
    kinds = Counter(kind for kind, _ in failures.values())
    counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
    total = f"{len(failures):,} of {task.rows.num_rows:,} images"
    say(f"{total} failed and are left out: {counts}")
    for place, (kind, what) in sorted(failures.items())[:_SHOWN]:
        say(f"  {printable(task.rows['uri'][place].as_py())}: {kind}: {printable(what)}")
    if len(failures) > _SHOWN:
        say(f"  … and {len(failures) - _SHOWN:,} more")
    task = task.without(list(failures))
    check(task)
    return task


def _head(opened: Opened, folder: Path) -> Any:
    """Load the head that was given, or that an earlier start trained; or train one."""
    task, kept = opened.task, folder / "head.keras"
    if opened.head or kept.exists():
        return load_head(opened.head or kept, opened.base.dimension, len(task.classes))
    examples, seed = opened.examples, opened.options.seed
    with collect(opened.features, examples, seed) as data:
        head = train.fit(data, examples.targets, train.FitOptions(seed=seed), lambda _: None).scores
    temporary = folder / ".tmp-head.keras"
    head.save(temporary)
    temporary.replace(kept)
    return head


def _data(opened: Opened, pixels: Pixels) -> Data:
    task, mode = opened.task, opened.resolved.preprocess
    examples = Examples(pixels.pixels, task.targets, task.weights, mode, opened.options.batch_size)
    return Data(examples, task.places("train"), task.places("validation"), task.places("test"))


def _train(model: Any, data: Data, opened: Opened, folder: Path, say: Say) -> dict[str, Any]:
    """Train, report, and return what model.json says of it."""
    epochs = opened.options.epochs

    def tell(line: dict[str, float]) -> None:
        numbers = [f"{name} {value:.4f}" for name, value in line.items() if name != "epoch"]
        say(f"epoch {line['epoch']}/{epochs} {' '.join(numbers)}")

    state = fit(model, data, opened.fitting, folder, tell)
    best = int(best_epoch(state)["epoch"])
    say(f"epoch {best} is the best: its weights are saved")
    # As it will be saved.
    to_float32(opened.base)
    model.make_test_function(force=True)
    test = evaluate(model, data, data.test)
    if test:
        frozen = state.history[0]["test_accuracy"]
        say(
            f"test accuracy {test['accuracy']:.4f} on {len(data.test):,} images; "
            f"{frozen:.4f} before, with the head on the frozen network"
        )
    return {"epochs": state.history, "best_epoch": best, "test": test}


def _describe(opened: Opened, facts: dict[str, Any], sha256: str) -> Description:
    training = {
        "recipe": dict(opened.recipe),
        "learning": opened.base.learning,
        "options": {name: getattr(opened.options, name) for name in _NOTED},
        "precision": opened.precision,
        "images": dict(Counter(filter(None, opened.task.sides.tolist()))),
        **facts,
    }
    return Description(
        sha256=sha256,
        input_size=opened.resolved.input_size,
        resize=opened.looks.resize,
        preprocess=opened.resolved.preprocess,
        feature_layer=opened.base.feature_layer,
        labels=opened.task.classes,
        training=training,
    )
