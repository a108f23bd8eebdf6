"""The options that are Beam's and its runners' own: known ones pass, a mistyped one is refused."""

from __future__ import annotations

import argparse
import difflib
import shlex
from typing import Any, NoReturn

from transforms.errors import UserError


def check_beam(left: list[str], own: list[str], runner: str | None) -> None:
    """Refuse what no Beam option class knows: Beam itself would drop a mistyped option in silence."""
    from apache_beam.options.pipeline_options import PipelineOptions

    if runner:
        _check_runner(runner)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in subclasses(PipelineOptions):
        options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(left)
    except (SystemExit, argparse.ArgumentError):
        raise UserError(f"cannot read the Beam options {shlex.join(left)}") from None
    if any(word.startswith("--no_wait_until_finish") for word in left):
        raise UserError(
            "--no_wait_until_finish would not wait for the listing either; give --no-wait"
        )
    if unknown:
        beam = [name for action in parser._actions for name in action.option_strings]
        refuse(unknown[0], own + beam)


def _check_runner(name: str) -> None:
    """Refuse a runner that there is not.

    One that is named with its module is imported: its options are known then.
    """
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--runner {name} cannot be imported: {error}") from error
    except ValueError:
        raise UserError(
            f"--runner {name}: Beam has none of that name; it has DirectRunner, PrismRunner, "
            "FlinkRunner, SparkRunner, PortableRunner and DataflowRunner. Others are named with "
            "their module, as in launch/dask.args"
        ) from None


def subclasses(base: Any) -> list[Any]:
    """The classes below ``base`` that bring options of their own, one of each name."""
    direct = {cls.__name__: cls for cls in base.__subclasses__()}
    return [
        cls
        for child in direct.values()
        for cls in [child, *subclasses(child)]
        if "_add_argparse_args" in vars(cls)
    ]


def refuse(word: str, known: list[str]) -> NoReturn:
    """Say that an option is unknown, and which one it may have been meant for."""
    name = word.split("=")[0]
    if not name.startswith("-"):
        raise UserError(f"unexpected argument {word!r} (a value with spaces needs quotes)")
    close = difflib.get_close_matches(
        name.replace("_", "-"), [k.replace("_", "-") for k in known], n=1, cutoff=0.65
    )
    spelled = next((k for k in known if close and k.replace("_", "-") == close[0]), None)
    hint = f"did you mean {spelled}?" if spelled else "'image-features extract --help' lists ours"
    raise UserError(f"unknown option {name}; {hint}")
