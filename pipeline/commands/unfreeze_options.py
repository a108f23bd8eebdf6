"""The options of ``image-features train`` that train the network itself."""

from __future__ import annotations

import argparse
from dataclasses import fields

from pipeline.commands.base import EXIT_PUBLISHED, Parser, say
from transforms.choices import Precision, words


def unfreeze_options(parser: Parser) -> None:
    """Add the options of ``--unfreeze``."""
    group = parser.add_argument_group("training the network itself, on the images")
    add = group.add_argument
    add(
        "--unfreeze",
        metavar="N|LAYER",
        help="the last N layers with weights learn, or all layers from this one on",
    )
    add("--head", metavar="PATH", help="head.keras to start from (default: train one first)")
    add("--backbone", metavar="PATH", help="the table's network, if it is a model of your own")
    add("--weights", metavar="PATH", help="the weights of the table's network, if from a file")
    add(
        "--rate", type=float, metavar="RATE", help="learning rate of the first step (default: 1e-5)"
    )
    add(
        "--precision",
        choices=words(Precision),
        help="of the arithmetic (default: half precision on a GPU that computes it faster, "
        "otherwise float32)",
    )


def run_unfreeze(arguments: argparse.Namespace) -> int:
    """Train the network itself; return the exit code. An option that is None has its default."""
    from pipeline.training.unfreeze.opened import UnfreezeOptions
    from pipeline.training.unfreeze.run import unfreeze

    given = {f.name: getattr(arguments, f.name) for f in fields(UnfreezeOptions)}
    given["stores"] = tuple(arguments.stores)
    options = {name: value for name, value in given.items() if value is not None}
    unfreeze(UnfreezeOptions(**options), say)
    return EXIT_PUBLISHED
