"""``image-features plan``: do the first of three steps."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command
from pipeline.commands.options import config_of, run_options
from pipeline.commands.report import report


def _run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from pipeline.run import plan_each

    report(plan_each(config), config.output, config.metrics_json)
    return EXIT_PUBLISHED


COMMAND = Command(
    "plan",
    "do the first of three steps: list, compare, write the plan; 'extract --planned' is next",
    run_options,
    _run,
    description="List the images, compare them with the table and write the plan of a run. The "
    "options are those of 'extract'. 'extract --planned' then extracts the shards, and 'publish' "
    "commits the run.",
    takes_beam_options=True,
)
