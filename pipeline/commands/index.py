"""``image-features index``: make a search of many rows fast."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "--index-bytes",
        type=int,
        choices=(2, 1),
        help="bytes for each number of a vector: 2 (float16); or 1, half the size, where each "
        "search reads some parts of the table (default: as the index that is there, or 2)",
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="make the index anew, whatever is there"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.indexing.build import IndexConfig, index

    config = IndexConfig(
        arguments.stores, arguments.table, arguments.index_bytes, arguments.rebuild
    )
    say(str(index(arguments.output, config)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "index",
    "make or update the index that search uses",
    _add_options,
    _run,
    description="Make the index that search uses, or update it after a night: it adds the new rows "
    "and leaves the removed ones out. A search is right without it, and between two updates; the "
    "index makes it fast.",
)
