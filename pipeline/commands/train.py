"""``image-features train``: train a classifier on what was extracted."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option
from pipeline.commands.unfreeze_options import run_unfreeze, unfreeze_options
from transforms.errors import UserError

_LOG = logging.getLogger(__name__)
_WIDTH = 30


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    add = parser.add_argument
    add(
        "--labels",
        required=True,
        metavar="folder|column:NAME|csv:FILE",
        help="the labels of the images: the folder that each lies in, a column that was carried, "
        "or a CSV file with the columns uri and label",
    )
    add(
        "--save",
        required=True,
        metavar="PATH",
        help="where the trained head or model goes, such as head.keras; its description goes "
        "beside it",
    )
    add(
        "--split-column",
        metavar="NAME",
        help="a column that was carried and holds train, validation or test (default: the bytes of "
        "each image decide, 80/10/10)",
    )
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="max passes over the vectors (default: 50), or passes over the images (default: 5)",
    )
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="rows in one step (default: 32 to 512), or images (default: 32)",
    )
    add("--seed", type=int, default=0, metavar="N", help="decides everything that is random")
    unfreeze_options(parser)


# Options that only make sense with --unfreeze.
_OF_UNFREEZE = ("head", "backbone", "weights", "rate", "precision")


def _run(arguments: argparse.Namespace) -> int:
    """Train the network itself with --unfreeze, otherwise a head; return the exit code."""
    if arguments.unfreeze:
        return run_unfreeze(arguments)
    for name in _OF_UNFREEZE:
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is for training the network itself; add --unfreeze")
    return _run_head(arguments)


def _run_head(arguments: argparse.Namespace) -> int:
    from pipeline.training.head import FitOptions
    from pipeline.training.train import TrainOptions, train_head

    given = {name: getattr(arguments, name) for name in ("epochs", "batch_size", "seed")}
    options = TrainOptions(
        output=arguments.output,
        labels=arguments.labels,
        save=arguments.save,
        table=arguments.table,
        split_column=arguments.split_column,
        fit=FitOptions(**{name: value for name, value in given.items() if value is not None}),
        stores=tuple(arguments.stores),
    )
    bar = _bar()
    done = train_head(options, say, bar)
    say(f"saved {done.path}, and beside it its description, its epochs and a report")
    return EXIT_PUBLISHED


def _bar() -> Callable[[int, int], None] | None:
    """Return a function that shows the steps of an epoch on a terminal; None without a terminal."""
    stream = sys.stderr
    if stream is None or not stream.isatty() or not _LOG.isEnabledFor(logging.INFO):
        return None

    def show(done: int, steps: int) -> None:
        if done < steps and done % max(steps // _WIDTH, 1):
            return
        filled = "" if done >= steps else f"{'█' * (_WIDTH * done // steps):·<{_WIDTH}}"
        stream.write(f"\r\033[K{filled}")
        stream.flush()

    return show


COMMAND = Command(
    "train",
    "train a classifier on the vectors of an output, or its network on its images",
    _add_options,
    _run,
    description="Train a classifier, a head, on the vectors of an output, without reading an "
    "image. With --unfreeze, train the last layers of the output's network on its images, and save "
    "it for 'extract --backbone'; such a training that was killed goes on when the same command "
    "runs again.",
)
