"""``image-features status``: how far the newest run is."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, say
from pipeline.commands.options import output_argument


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.reports.status import status

    say(str(status(arguments.output, stores=arguments.stores)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "status",
    "tell how far the newest run is, on whatever runner; from its receipts",
    output_argument,
    _run,
)
