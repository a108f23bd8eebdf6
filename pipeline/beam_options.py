"""The options that are Beam's and its runners' own: known ones pass, a mistyped one is refused."""

from __future__ import annotations

import argparse
import difflib
import importlib
import shlex
from typing import Any, NoReturn

from transforms.errors import UserError


def check_beam(left: list[str], own: list[str], runner: str | None) -> None:
    """Refuse what no Beam option class knows: Beam itself would drop a mistyped option in silence."""
    from apache_beam.options.pipeline_options import PipelineOptions

    _import_runner(runner or "")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in subclasses(PipelineOptions):
        options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(left)
    except (SystemExit, argparse.ArgumentError):
        raise UserError(f"cannot read the Beam options {shlex.join(left)}") from None
    if any(word.startswith("--no_wait_until_finish") for word in left):
        raise UserError("--no_wait_until_finish would not wait for the listing either; give --no-wait")
    if unknown:
        beam = [name for action in parser._actions for name in action.option_strings]
        refuse(unknown[0], own + beam)


def _import_runner(runner: str) -> None:
    """Import the module of a runner that is named with it: its options are known only then."""
    module = runner.rpartition(".")[0]
    if not module:
        return
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"--runner {runner} cannot be imported: {error}") from error


def subclasses(base: Any) -> list[Any]:
    """The classes below ``base`` that bring options of their own, one of each name."""
    direct = {cls.__name__: cls for cls in base.__subclasses__()}
    return [
        cls for child in direct.values() for cls in [child, *subclasses(child)] if "_add_argparse_args" in vars(cls)
    ]


def refuse(word: str, known: list[str]) -> NoReturn:
    """Say that an option is unknown, and which one it may have been meant for."""
    name = word.split("=")[0]
    if not name.startswith("-"):
        raise UserError(f"unexpected argument {word!r} (a value with spaces needs quotes)")
    close = difflib.get_close_matches(name.replace("_", "-"), [k.replace("_", "-") for k in known], n=1, cutoff=0.65)
    spelled = next((k for k in known if close and k.replace("_", "-") == close[0]), None)
    hint = f"did you mean {spelled}?" if spelled else "'image-features extract --help' lists ours"
    raise UserError(f"unknown option {name}; {hint}")
