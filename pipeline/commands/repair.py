"""``image-features repair``: remove damaged parts from the tables."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, say
from pipeline.commands.options import output_argument


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.repair import repair

    done = repair(arguments.output, stores=arguments.stores)
    lines = [line for table in done for line in (*table.found, str(table))]
    say("\n".join(lines) or "nothing is damaged")
    return EXIT_PUBLISHED


COMMAND = Command(
    "repair",
    "remove missing and damaged parts from the tables; the next run extracts their images again",
    output_argument,
    _run,
)
