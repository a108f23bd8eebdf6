"""Parse the command line; the parser is built from the list of commands.

An option that is not ours must be one of Beam's. Beam is imported only when such an option is
given.
"""

from __future__ import annotations

import argparse

from pipeline.commands import COMMANDS
from pipeline.commands.argument_files import expand
from pipeline.commands.base import EXIT_CODES, Formatter, Parser, log_options
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
    parser = command_parser()
    words = _help_as_option(list(expand(argv)))
    arguments, left = parser.parse_known_args(words)
    if left and arguments.command not in _BEAM_COMMANDS:
        refuse(left, _own_options(parser, arguments.command))
    runner = getattr(arguments, "runner", None)
    if left or runner:
        inputs = tuple(getattr(arguments, "inputs", ()))
        check_beam(left, _own_options(parser, arguments.command), runner, inputs)
    if runner:
        left = [*left, f"--runner={runner}"]
    arguments.beam_args = tuple(left)
    arguments.stores = tuple(map(str, getattr(arguments, "stores", ())))
    # Parse them only to raise for invalid ones.
    _ = [parse_store(text) for text in arguments.stores]
    return arguments


def command_parser() -> Parser:
    """Build the parser of ``image-features`` with all its commands."""
    parser = Parser(
        prog="image-features",
        description="Image collections → pooled vectors and labels from a pretrained network, in "
        "Parquet.",
        epilog="'image-features COMMAND --help' lists the options of a command.\n" + EXIT_CODES,
        formatter_class=Formatter,
    )
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=versions(),
        help="print the versions of this package, Python and Beam, as in a worker image's tag",
    )
    log_options(parser)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def _help_as_option(words: list[str]) -> list[str]:
    """Turn ``help`` and ``help COMMAND`` into ``--help`` and ``COMMAND --help``."""
    return [*words[1:2], "--help"] if words[:1] == ["help"] else words


def _own_options(parser: Parser, command: str) -> list[str]:
    """Return the option strings that a command itself defines."""
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    chosen: argparse.ArgumentParser = subparsers.choices[command]
    return [name for action in chosen._actions for name in action.option_strings]
