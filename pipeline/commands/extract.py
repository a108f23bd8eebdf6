"""``image-features extract``: do a whole run, or extract the shards of a planned one."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_CODES, EXIT_PUBLISHED, Command, Parser
from pipeline.commands.options import config_of, run_options
from pipeline.commands.page import night_page, page_option
from pipeline.commands.report import report
from transforms.errors import UserError

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
    page_option(steps)


def _run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    if config.planned and arguments.report not in (None, "none"):
        raise UserError("--report: 'publish' ends the run and writes its page; give it there")
    with night_page(arguments, wanted=not (config.dry_run or config.planned)):
        from pipeline.run import extract_each

        summaries = extract_each(config)
        report(summaries, config.output, config.metrics_json)
    return EXIT_PUBLISHED


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
