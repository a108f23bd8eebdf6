"""``image-features extract``: a whole run, or the shards of a planned one."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser
from pipeline.commands.options import config_of, run_options
from pipeline.commands.report import report

_EXAMPLES = """\
examples:
  image-features extract --input photos --output features
  image-features extract --input 's3://bucket/2024/**/*.jpg' --output s3://bucket/features --backbone ResNet50
  image-features extract --input list:uris.txt --output features --backbone model.keras --preprocess tf
  image-features extract @nightly.args

Options of Apache Beam and its runners (--runner, --direct_num_workers, …) may follow; any other is refused.
exit codes: 0 published, or nothing new; 1 the run failed or was refused; 2 the command line is wrong
"""


def _add_options(parser: Parser) -> None:
    run_options(parser)
    steps = parser.add_argument_group("steps")
    steps.add_argument(
        "--planned",
        action="store_true",
        help="only the shards of the run that 'plan' planned; 'publish' commits it",
    )
    steps.add_argument(
        "--no-wait",
        action="store_true",
        help="submit, and leave a job that goes on by itself (Dataflow, or at --job_endpoint); the "
        "same command finds it again",
    )


def _run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from pipeline.run import extract

    report(extract(config), config.output, config.metrics_json)
    return EXIT_PUBLISHED


COMMAND = Command(
    "extract",
    "extract features of an image collection into a table",
    _add_options,
    _run,
    description="Extract features of every new image of a collection and publish them in one commit.",
    epilog=_EXAMPLES,
    takes_beam_options=True,
)
