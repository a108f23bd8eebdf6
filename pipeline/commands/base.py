"""What every command shares: description, parser, types of options, exit codes, printing."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TextIO

from transforms.errors import UserError
from transforms.names import printable_lines

EXIT_PUBLISHED, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """Argparse, with ``@file.args`` that may hold comments and quotes, and errors as ``UserError``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fromfile_prefix_chars="@", allow_abbrev=False, **kwargs)

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """One line of an arguments file: words as in a shell, ``#`` starts a comment."""
        return shlex.split(arg_line, comments=True)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting: the command line prints every mistake in one way."""
        raise UserError(f"{message} (see '{self.prog} --help')")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows each option's default where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = action.help or ""
        hidden = action.default in (None, False, "", argparse.SUPPRESS, []) or "default" in shown
        return shown if hidden or not action.option_strings else f"{shown} (default: %(default)s)"

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=112)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of ``image-features``.

    Each call of ``image-features`` imports its file, so that file imports neither Arrow nor Beam at
    the top. ``run`` imports them.
    """

    name: str
    help: str  # a line in the list of commands
    add_options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit code
    description: str | None = None  # None: the help as a sentence
    epilog: str | None = None
    takes_beam_options: bool = False

    def add_to(self, commands: argparse._SubParsersAction[Parser]) -> None:
        """Add the command's parser to those of ``image-features``."""
        parser = commands.add_parser(
            self.name,
            help=self.help,
            description=self.description or f"{self.help[0].upper()}{self.help[1:]}.",
            epilog=self.epilog,
            formatter_class=Formatter,
        )
        self.add_options(parser)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print text to ``stream`` (default: standard output), its control characters escaped."""
    print(printable_lines(text), file=stream, flush=True)


def duration(text: str) -> timedelta:
    """``36h``, ``14d`` or ``2w``."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", text)
    hours = int(found[1]) * {"h": 1, "d": 24, "w": 168}[found[2]] if found else 0
    if hours < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: at least 1h; a number and h, d or w, as in 14d"
        )
    return timedelta(hours=hours)


def count(text: str) -> int:
    """A number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: a number, 0 or more")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a share from 0 to 1")
    return value
