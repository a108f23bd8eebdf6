"""``image-features train``: train on what was extracted."""

from __future__ import annotations

import argparse

from pipeline.commands.base import Command, Parser
from pipeline.commands.options import output_argument, table_option
from pipeline.commands.unfreeze_options import run_unfreeze, unfreeze_options
from transforms.errors import UserError


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
    add("--save", required=True, metavar="PATH", help="where the trained model goes")
    add("--epochs", type=int, metavar="N", help="passes over the images (default: 5)")
    add("--batch-size", type=int, metavar="N", help="images in one step (default: 32)")
    add("--seed", type=int, default=0, metavar="N", help="decides everything that is random")
    unfreeze_options(parser)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.unfreeze:
        raise UserError("--unfreeze is missing: say how many layers learn, or the first one")
    return run_unfreeze(arguments)


COMMAND = Command(
    "train",
    "train a network on the images of an output",
    _add_options,
    _run,
    description="Train the last layers of an output's network on its images, and save it for "
    "'extract --backbone'. A training that was killed goes on when the same command runs again.",
)
