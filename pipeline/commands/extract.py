"""``image-features extract``: do a whole run, or extract the shards of a planned one."""

from __future__ import annotations

import argparse
import logging

from pipeline.commands.base import EXIT_CODES, EXIT_PUBLISHED, Command, Parser
from pipeline.commands.options import config_of, run_options
from pipeline.commands.report import report
from transforms.errors import Refused

_LOG = logging.getLogger(__name__)
_EXAMPLES = """\
examples:
  image-features extract --input photos --output features
  image-features extract --input 's3://bucket/2024/**/*.jpg' --output s3://bucket/features \\
    --backbone ResNet50
  image-features extract --input list:uris.txt --output features \\
    --backbone model.keras --preprocess tf
  image-features extract --input photos --output features \\
    --backbone efficientnet_lite0 --backbone ResNet50,normalize=l2
  image-features extract @nightly.args

Options of Apache Beam and its runners (--runner, --direct_num_workers, …) may follow; any other
option is refused.
"""


def _add_options(parser: Parser) -> None:
    run_options(parser)
    steps = parser.add_argument_group("steps")
    steps.add_argument(
        "--planned",
        action="store_true",
        help="extract only the shards of the run that 'plan' planned; 'publish' commits it",
    )
    steps.add_argument(
        "--no-wait",
        action="store_true",
        help="submit a job that continues by itself (Dataflow, or at --job_endpoint), and return; "
        "the same command finds the job again",
    )
    steps.add_argument(
        "--report",
        metavar="FILE_OR_URL",
        help="write a page about the night there, also when the run is refused; see "
        "'image-features report'",
    )


def _run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from pipeline.run import extract_each

    try:
        summaries = extract_each(config)
    except Refused:
        _write_report(arguments)
        raise
    report(summaries, config.output, config.metrics_json)
    _write_report(arguments)
    return EXIT_PUBLISHED


def _write_report(arguments: argparse.Namespace) -> None:
    """Write the page about the night; an error changes nothing in how the run ended."""
    if not arguments.report:
        return
    from pipeline.reports.night.night import ReportConfig, report_night, write_report

    try:
        made = report_night(arguments.output, ReportConfig(stores=tuple(arguments.stores)))
        write_report(made, arguments.report, arguments.stores)
    except Exception as error:
        # Catch any error: the run has ended, and its result stands.
        _LOG.warning(
            "no report was written to %s: %s. 'image-features report %s' tries again.",
            arguments.report,
            str(error).rstrip("."),
            arguments.output,
        )


COMMAND = Command(
    "extract",
    "extract features of an image collection into a table",
    _add_options,
    _run,
    description="Extract features of every new image of a collection and publish them in one "
    "commit.",
    epilog=_EXAMPLES + EXIT_CODES,
    takes_beam_options=True,
)
