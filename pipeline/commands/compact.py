"""``image-features compact``: merge small parts of the tables."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.compact import compact

    done = compact(arguments.output, stores=arguments.stores, table=arguments.table)
    say("\n".join(map(str, done)) or "nothing to merge")
    return EXIT_PUBLISHED


COMMAND = Command(
    "compact",
    "merge small parts of the tables; extract also does this when there are many",
    _add_options,
    _run,
)
