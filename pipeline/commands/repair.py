"""``image-features repair``: remove damaged parts from the tables."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.repair import repair

    done = repair(arguments.output, stores=arguments.stores, table=arguments.table)
    lines = [line for table in done for line in (*table.found, str(table))]
    say("\n".join(lines) or "nothing is damaged")
    return EXIT_PUBLISHED


COMMAND = Command(
    "repair",
    "remove missing and damaged parts from the tables; the next run extracts their images again",
    _add_options,
    _run,
)
