"""``image-features selfcheck``: check that this machine computes the vectors of Keras."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.network_options import backbone_options, compute_options
from transforms.names import printable


def _add_options(parser: Parser) -> None:
    backbone_options(parser)
    compute_options(parser)


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.config import Config
    from pipeline.diagnostics.selfcheck import selfcheck

    own = ("command", "beam_args")
    options = {name: value for name, value in vars(arguments).items() if name not in own}
    for result in selfcheck(Config.of(inputs=("-",), output="-", **options)):
        say(printable(str(result)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "selfcheck",
    "compute known vectors on this machine and compare them",
    _add_options,
    _run,
    description="Compute the vectors of the golden batch with each installed engine, and compare "
    "them with those of Keras.",
)
