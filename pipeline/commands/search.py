"""``image-features search``: find the images most similar to a photo."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, count, say
from pipeline.commands.options import output_argument, table_option

if TYPE_CHECKING:
    import pyarrow as pa


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", metavar="PHOTO", help="search for a photo: its path or URL")
    what.add_argument("--uri", metavar="URI", help="search for a row of the table")
    what.add_argument(
        "--text", metavar="WORDS", help="search for words; needs a backbone with a text tower"
    )
    parser.add_argument(
        "--backbone",
        metavar="hub:PRESET",
        help="of --text: the preset of KerasHub that made the vectors of the table",
    )
    parser.add_argument(
        "--where",
        metavar="SQL",
        help="show only rows that meet this condition, in DuckDB's SQL over the table's columns",
    )
    parser.add_argument("-k", type=count, default=20, metavar="N", help="max number of results")
    parser.add_argument(
        "--version", type=count, metavar="N", help="search an earlier version of the table"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--exact", action="store_true", help="compare with every row, without index")
    how.add_argument(
        "--effort",
        type=count,
        metavar="CELLS",
        help="cells of the index to look into: more is slower and finds more (default: 16, or 1 of "
        "64 cells)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a line of JSON for each result")
    form.add_argument(
        "--html", metavar="FILE", help="write a page with thumbnails, which needs no server"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.retrieval.page import write_page
    from pipeline.retrieval.query import Query
    from pipeline.retrieval.search import open_searcher, search
    from pipeline.retrieval.searcher import SearchConfig

    query = Query(arguments.image, arguments.uri, arguments.text)
    # One search reads each part once: nothing needs to stay in memory.
    config = SearchConfig(
        arguments.stores,
        arguments.table,
        arguments.version,
        cache_bytes=0,
        exact=arguments.exact,
        effort=arguments.effort,
        backbone=arguments.backbone,
    )
    hits = search(arguments.output, query, where=arguments.where, k=arguments.k, config=config)
    if arguments.json:
        for row in hits.to_pylist():
            say(json.dumps(row))
        return EXIT_PUBLISHED
    say(_table_text(hits))
    if arguments.html:
        pictures = open_searcher(arguments.output, config).thumbnails(hits["uri"].to_pylist())
        write_page(arguments.html, query, hits, pictures)
        say(f"wrote {arguments.html}")
    return EXIT_PUBLISHED


def _table_text(hits: pa.Table) -> str:
    from pipeline.reports.text import format_table

    rows = [("score", "label", "uri")]
    rows += [(f"{hit['score']:.4f}", hit["label"] or "-", hit["uri"]) for hit in hits.to_pylist()]
    return format_table(rows) if hits.num_rows else "no row of the table meets the condition"


COMMAND = Command(
    "search",
    "find the images most similar to a photo",
    _add_options,
    _run,
    description="Find the images most similar to a photo, to a row of the table, or to words. The "
    "score is the cosine of the two vectors: 1 for the same picture.",
)
