"""``image-features plan``: the first of three steps."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command
from pipeline.commands.options import config_of, run_options
from pipeline.commands.report import report


def _run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    from pipeline.run import plan_run

    report(plan_run(config), config.output, config.metrics_json)
    return EXIT_PUBLISHED


COMMAND = Command(
    "plan",
    "the first of three steps: list and compare, write the plan; 'extract --planned' is next",
    run_options,
    _run,
    description="List, compare and write the plan of a run; with the options of 'extract'. "
    "'extract --planned' does its shards, and 'publish' commits it.",
    takes_beam_options=True,
)
