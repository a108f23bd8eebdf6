"""``image-features trace``: show one photo in each stage."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.network_options import backbone_options, compute_options
from pipeline.commands.options import limit_options, store_option


def _add_options(parser: Parser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="path or URL of an image")
    parser.add_argument(
        "--save", metavar="DIR", help="save the image that the network sees in this folder"
    )
    parser.add_argument(
        "--image-column",
        metavar="NAME",
        help="for a row CONTAINER::NUMBER: column or feature of the image's bytes",
    )
    store_option(parser)
    backbone_options(parser)
    compute_options(parser)
    limit_options(parser)


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.diagnostics.trace import trace

    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    say(str(trace(**options)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "trace",
    "show one photo in each stage",
    _add_options,
    _run,
    description="Show one photo in each stage: loaded → resized → preprocessed → pooled vector → "
    "top-k labels.",
)
