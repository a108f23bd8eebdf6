"""``image-features history``: list the versions of the features table."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.history import history

    say(str(history(arguments.output, stores=arguments.stores, table=arguments.table)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "history",
    "list the versions of the features table, newest first",
    _add_options,
    _run,
)
