"""What all commands share: description, parser, option types, exit codes, printing."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TextIO

from transforms.errors import UserError
from transforms.names import printable_lines

EXIT_PUBLISHED, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = """\
exit codes: 0 published, or nothing new; 1 the run failed or was refused; 2 the command line is
invalid; 130 stopped by Ctrl-C; 143 stopped by SIGTERM
"""

# The codes of green, red, yellow and cyan, and the words that they mark.
_COLORS = {
    "32": r"\b(?:published|unchanged|clean)\b(?! \d)",
    "31": r"\b(?:refused|superseded|failed [1-9][\d,]*|[1-9][\d,]* failed)\b",
    "33": r"\bnot finished\b",
    "36": r"\[#+\.*\]",
}


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations, and raises ``UserError``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, since the command line prints all errors in one way.

        Raises:
            UserError: Always, with the message.
        """
        raise UserError(f"{message} (see '{self.prog} --help')")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = action.help or ""
        hidden = (
            action.default in (None, False, "", argparse.SUPPRESS, [], ()) or "default" in shown
        )
        return shown if hidden or not action.option_strings else f"{shown} (default: %(default)s)"

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=112)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of ``image-features``.

    Each call of ``image-features`` imports the files of all commands. So these files import
    neither Arrow nor Beam at the top; ``run`` imports them.
    """

    name: str
    # One line in the list of commands.
    help: str
    add_options: Callable[[Parser], None]
    # Returns the exit code.
    run: Callable[[argparse.Namespace], int]
    # ``None`` makes ``help`` a sentence.
    description: str | None = None
    epilog: str | None = None
    takes_beam_options: bool = False

    def add_to(self, commands: argparse._SubParsersAction[Parser]) -> None:
        """Add the command's parser to the subparsers of ``image-features``."""
        parser = commands.add_parser(
            self.name,
            help=self.help,
            description=self.description or f"{self.help[0].upper()}{self.help[1:]}.",
            epilog=self.epilog,
            formatter_class=Formatter,
        )
        self.add_options(parser)
        log_options(parser)


def log_options(parser: Parser) -> None:
    """Add the options that say how much is logged; they may stand before or after the command."""
    group = parser.add_mutually_exclusive_group()
    for letter, name, level, text in (
        ("-q", "--quiet", logging.WARNING, "log only warnings and errors, and show no progress"),
        ("-v", "--verbose", logging.DEBUG, "log more"),
    ):
        group.add_argument(
            letter,
            name,
            action="store_const",
            const=level,
            dest="log_level",
            default=argparse.SUPPRESS,
            help=text,
        )


def say(text: str, stream: TextIO | None = None) -> None:
    """Print text with its control characters escaped; on a terminal in colour.

    Args:
        text: One or more lines.
        stream: Where to print; ``None`` is standard output.
    """
    stream = stream or sys.stdout
    text = printable_lines(text)
    print(painted(text) if has_colors(stream) else text, file=stream, flush=True)


def has_colors(stream: TextIO) -> bool:
    """Tell whether a stream shows colours, and its user wants them (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return wanted and stream.isatty()


def painted(text: str) -> str:
    """Colour how runs ended, failed images and bars."""
    for color, words in _COLORS.items():
        text = re.sub(words, rf"\033[{color}m\g<0>\033[0m", text)
    return text


def duration(text: str) -> timedelta:
    """Parse a duration such as ``36h``, ``14d`` or ``2w``.

    Raises:
        ArgumentTypeError: The text is no duration, or less than 1 hour.
    """
    found = re.fullmatch(r"(\d{1,6})([hdw])", text)
    hours = int(found[1]) * {"h": 1, "d": 24, "w": 168}[found[2]] if found else 0
    if hours < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: at least 1h; a number and h, d or w, as in 14d"
        )
    return timedelta(hours=hours)


def count(text: str) -> int:
    """Parse a number that is at least 0.

    Raises:
        ArgumentTypeError: The text is no such number.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: a number, 0 or more")
    return int(text)


def share(text: str) -> float:
    """Parse a share from 0 to 1.

    Raises:
        ArgumentTypeError: The text is no such number.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a share from 0 to 1")
    return value


def price(text: str) -> float:
    """Parse a sum of money.

    Raises:
        ArgumentTypeError: The text is no number, or less than 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a number, 0 or more, as in 0.35")
    return value
