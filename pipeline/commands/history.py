"""``image-features history``: list the versions of the features table."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, say
from pipeline.commands.options import output_argument


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.history import history

    say(str(history(arguments.output, stores=arguments.stores)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "history",
    "list the versions of the features table, newest first",
    output_argument,
    _run,
)
