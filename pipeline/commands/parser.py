"""Parse the command line; the parser is built from the list of commands.

An option that is not ours must be one of Beam's. Beam is imported only when such an option is
given.
"""

from __future__ import annotations

import argparse

from pipeline.commands import COMMANDS
from pipeline.commands.base import Formatter, Parser
from pipeline.commands.shipped import find_shipped
from pipeline.runners.flags import check_beam, refuse
from pipeline.runners.version import versions
from transforms.storage.settings import parse_store

_BEAM_COMMANDS = frozenset(command.name for command in COMMANDS if command.takes_beam_options)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
        argv: The words after ``image-features``.

    Returns:
        The command's options; ``stores`` is a tuple, and ``beam_args`` holds the options for Beam.

    Raises:
        UserError: An option is unknown or invalid.
    """
    parser = _command_parser()
    arguments, left = parser.parse_known_args([find_shipped(word) for word in argv])
    if left and arguments.command not in _BEAM_COMMANDS:
        refuse(left[0], _own_options(parser, arguments.command))
    runner = getattr(arguments, "runner", None)
    if left or runner:
        check_beam(left, _own_options(parser, arguments.command), runner)
    if runner:
        left = [*left, f"--runner={runner}"]
    arguments.beam_args = tuple(left)
    arguments.stores = tuple(map(str, getattr(arguments, "stores", ())))
    # Parse them only to raise for invalid ones.
    _ = [parse_store(text) for text in arguments.stores]
    return arguments


def _command_parser() -> Parser:
    """Build the parser of ``image-features`` with all its commands."""
    parser = Parser(
        prog="image-features",
        description="Image collections → pooled vectors and labels from a pretrained network, in "
        "Parquet.",
        formatter_class=Formatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=versions(),
        help="print the versions of this package, Python and Beam, as in a worker image's tag",
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def _own_options(parser: Parser, command: str) -> list[str]:
    """Return the option strings that a command itself defines."""
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    chosen: argparse.ArgumentParser = subparsers.choices[command]
    return [name for action in chosen._actions for name in action.option_strings]
