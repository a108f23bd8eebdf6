"""``image-features show``: show what is in an output."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "--rows", type=int, default=0, metavar="N", help="show the first N images too"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.reports.show import show

    say(str(show(arguments.output, arguments.rows, stores=arguments.stores, table=arguments.table)))
    return EXIT_PUBLISHED


COMMAND = Command("show", "show what is in an output", _add_options, _run)
