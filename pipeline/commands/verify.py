"""``image-features verify``: read and check every part."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_FAILED, EXIT_PUBLISHED, Command, Parser, count, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "--sample",
        type=count,
        default=0,
        metavar="N",
        help="also compute the vectors of N images again, from the images",
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.verify import verify

    verification = verify(
        arguments.output, arguments.sample, stores=arguments.stores, table=arguments.table
    )
    say(str(verification))
    return EXIT_PUBLISHED if verification.clean else EXIT_FAILED


COMMAND = Command(
    "verify",
    "read and check every part",
    _add_options,
    _run,
    epilog="exit codes: 0 clean; 1 problems, one a line; 2 the command line is invalid; 130 "
    "stopped by\nCtrl-C; 143 stopped by SIGTERM",
)
