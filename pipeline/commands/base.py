"""Argparse as this command line wants it: files of options, errors in one way, times and counts as types."""

from __future__ import annotations

import argparse
import re
import shlex
from datetime import timedelta
from typing import Any, NoReturn

from transforms.errors import UserError


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


def duration(text: str) -> timedelta:
    """``36h``, ``14d`` or ``2w``."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", text)
    hours = int(found[1]) * {"h": 1, "d": 24, "w": 168}[found[2]] if found else 0
    if hours < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: at least 1h; a number and h, d or w, as in 14d")
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
