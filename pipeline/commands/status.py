"""``image-features status``: tell how far the newest run is."""

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
    "tell from the receipts how far the newest run is, on any runner",
    output_argument,
    _run,
)
