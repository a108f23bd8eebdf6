"""``image-features duplicates``: find groups of near-duplicates."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "--cosine",
        type=float,
        default=0.7,
        metavar="C",
        help="the least cosine of two vectors whose pictures are compared",
    )
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with the groups, which needs no server"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.grouping.find import DuplicatesConfig, duplicates

    config = DuplicatesConfig(arguments.stores, arguments.table, arguments.cosine)
    result = duplicates(arguments.output, config)
    say(str(result))
    if arguments.html:
        from pipeline.grouping.page import MAX_SHOWN, groups_page
        from pipeline.retrieval.page import write_html
        from pipeline.retrieval.search import open_searcher
        from pipeline.retrieval.searcher import SearchConfig

        searcher = open_searcher(
            arguments.output, SearchConfig(arguments.stores, arguments.table, result.version)
        )
        shown = result.groups[:MAX_SHOWN]
        pictures = searcher.thumbnails(shown["uri"].to_pylist())
        write_html(arguments.html, groups_page(shown, result.groups.num_rows, pictures))
        say(f"wrote {arguments.html}")
    return EXIT_PUBLISHED


COMMAND = Command(
    "duplicates",
    "find groups of near-duplicates",
    _add_options,
    _run,
    description="Find images with equal bytes, and images that are the same picture: encoded "
    "again, scaled or cropped a little. Write the groups to the table OUTPUT/duplicates. Nothing "
    "is deleted.",
)
