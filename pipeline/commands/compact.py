"""``image-features compact``: merge small parts of the tables."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, say
from pipeline.commands.options import output_argument


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.compact import compact

    done = compact(arguments.output, stores=arguments.stores)
    say("\n".join(map(str, done)) or "nothing to merge")
    return EXIT_PUBLISHED


COMMAND = Command(
    "compact",
    "merge small parts of the tables; extract also does this when there are many",
    output_argument,
    _run,
)
