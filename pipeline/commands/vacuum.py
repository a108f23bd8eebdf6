"""``image-features vacuum``: delete files that nothing needs."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, duration, say
from pipeline.commands.options import output_argument


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    parser.add_argument(
        "--older-than",
        type=duration,
        default="14d",
        metavar="TIME",
        help="a number and h, d or w, as in 36h, 14d, 2w; at least 1h (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list what would be deleted; delete nothing"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.maintenance.vacuum import vacuum

    older_than, dry_run = arguments.older_than, arguments.dry_run
    say(str(vacuum(arguments.output, older_than, dry_run, stores=arguments.stores)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "vacuum",
    "delete files that no unfinished run and no version younger than --older-than needs",
    _add_options,
    _run,
)
