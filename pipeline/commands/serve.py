"""``image-features serve``: a local page to search and look at the images of a table."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, count, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "--port", type=count, default=8000, metavar="N", help="port on 127.0.0.1; 0 takes any free"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.retrieval.searcher import SearchConfig
    from pipeline.serve.server import PageServer, ServeConfig

    search = SearchConfig(arguments.stores, arguments.table)
    server = PageServer(ServeConfig(arguments.output, arguments.port, search))
    say(f"open {server.url} in a browser; Ctrl-C stops the server")
    server.run()
    return EXIT_PUBLISHED


COMMAND = Command(
    "serve",
    "show a local page to search and look at the images",
    _add_options,
    _run,
    description="Serve a page on this machine: drop a photo or click one to see its neighbours, "
    "look at the newest night, the failures, the near-duplicates and a map. Only this machine can "
    "open it, and it never writes to OUTPUT.",
)
