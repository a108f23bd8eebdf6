"""``image-features publish``: do the last of three steps."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, share
from pipeline.commands.options import metrics_options, output_argument
from pipeline.commands.page import night_page, page_option
from pipeline.commands.report import report


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    parser.add_argument(
        "--max-failure-rate",
        type=share,
        metavar="SHARE",
        help="replaces the rate that the run was planned with",
    )
    metrics_options(parser)
    page_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    with night_page(arguments):
        from pipeline.run import publish_each

        files = (arguments.metrics_json, arguments.metrics_prometheus)
        summaries = publish_each(
            arguments.output, arguments.max_failure_rate, *files, stores=arguments.stores
        )
        report(summaries, arguments.output, arguments.metrics_json)
    return EXIT_PUBLISHED


COMMAND = Command(
    "publish", "do the last of three steps: commit a run whose shards are done", _add_options, _run
)
