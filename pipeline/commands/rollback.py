"""``image-features rollback``: restore an earlier version."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "version", type=int, metavar="VERSION", help="a version number that 'history' lists"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.rollback import rollback

    say(
        str(
            rollback(
                arguments.output, arguments.version, stores=arguments.stores, table=arguments.table
            )
        )
    )
    return EXIT_PUBLISHED


COMMAND = Command(
    "rollback",
    "restore both tables to an earlier version, in a new commit",
    _add_options,
    _run,
)
