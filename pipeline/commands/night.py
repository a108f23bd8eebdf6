"""``image-features report``: write a page about one night."""

from __future__ import annotations

import argparse
import json

from pipeline.commands.base import EXIT_FAILED, EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import output_argument, table_option
from pipeline.commands.page import price_option


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument("--run", metavar="ID", help="a run that 'show' lists (default: the newest)")
    parser.add_argument(
        "--html", metavar="FILE_OR_URL", help="write the page there (default: print the verdict)"
    )
    parser.add_argument(
        "--no-pictures", action="store_true", help="show no images; the page shows some otherwise"
    )
    price_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the verdict and its figures as a line of JSON"
    )
    parser.add_argument(
        "--fail-on-drift",
        action="store_true",
        help="exit with 1 when the new vectors differ from the earlier ones in an unusual way",
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.reports.html import check_page
    from pipeline.reports.night.night import ReportConfig, report_night, write_report

    if arguments.html is not None:
        check_page(arguments.html)
    config = ReportConfig(
        arguments.table,
        arguments.run,
        bool(arguments.html) and not arguments.no_pictures,
        arguments.stores,
        arguments.price_per_worker_hour,
    )
    made = report_night(arguments.output, config)
    if arguments.html:
        write_report(made, arguments.html, arguments.stores)
    say(json.dumps(made.metrics()) if arguments.json else made.verdict.sentence)
    if arguments.html and not arguments.json:
        say(f"wrote {arguments.html}")
    return EXIT_FAILED if arguments.fail_on_drift and made.verdict.drifts else EXIT_PUBLISHED


COMMAND = Command(
    "report",
    "write a page about one night",
    _add_options,
    _run,
    description="Say how a night went: what came, what failed, where the time went, and whether "
    "the new vectors differ from the earlier ones. It also reports a run that was refused, or that "
    "is not finished.",
)
