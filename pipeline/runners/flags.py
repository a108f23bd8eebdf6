"""Check the options of Beam and its runners: pass known ones, refuse mistyped ones."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from transforms.errors import UserError
from transforms.extras import install_command

# The extra that a runner needs, by a word in its name.
_EXTRAS = {"dask": "dask", "dataflow": "gcp"}


def check_beam(
    left: list[str], own: list[str], runner: str | None, inputs: Sequence[str] = ()
) -> None:
    """Refuse an option that no Beam option class knows.

    Beam itself silently drops a mistyped option.

    Args:
        left: The words of the command line that are not options of this program.
        own: The names of this program's options, for the hint.
        runner: The value of ``--runner``; None without it.
        inputs: The values of ``--input``, for the hint.

    Raises:
        UserError: An option is unknown, or its value is invalid.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    if runner:
        check_runner(runner)
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
        refuse(unknown, own + beam, inputs)


def check_runner(name: str) -> None:
    """Refuse an unknown runner, or one that is not installed.

    A runner that is named with its module is imported, so that Beam knows its options.

    Raises:
        UserError: Beam has no such runner, or it needs an extra that is not installed.
    """
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(name)
    except (ImportError, AttributeError) as error:
        extra = next((extra for word, extra in _EXTRAS.items() if word in name.lower()), None)
        if extra:
            raise UserError(
                f"--runner {name}: it is not installed. {install_command(extra)}"
            ) from error
        raise UserError(f"--runner {name} cannot be imported: {error}") from error
    except ValueError:
        raise UserError(
            f"--runner {name}: Beam has none of that name; it has DirectRunner, PrismRunner, "
            "FlinkRunner, SparkRunner, PortableRunner and DataflowRunner. Others are named with "
            "their module, as in launch/dask.args"
        ) from None


def subclasses(base: Any) -> list[Any]:
    """Return the subclasses of ``base`` that define options of their own, one for each name."""
    direct = {cls.__name__: cls for cls in base.__subclasses__()}
    return [
        cls
        for child in direct.values()
        for cls in [child, *subclasses(child)]
        if "_add_argparse_args" in vars(cls)
    ]


def refuse(words: Sequence[str], known: list[str], inputs: Sequence[str] = ()) -> NoReturn:
    """Refuse the words of a command line that nothing takes.

    Args:
        words: These words; an option has its value after ``=``.
        known: The names of all options, to name the one that is closest.
        inputs: The values of ``--input``.

    Raises:
        UserError: Always.
    """
    name = words[0].split("=")[0]
    if not name.startswith("-"):
        raise UserError(_stray(words, "--input" in known, inputs))
    close = difflib.get_close_matches(
        name.replace("_", "-"), [k.replace("_", "-") for k in known], n=1, cutoff=0.65
    )
    spelled = next((k for k in known if close and k.replace("_", "-") == close[0]), None)
    hint = f"did you mean {spelled}?" if spelled else "--help after the command lists its options"
    raise UserError(f"unknown option {name}; {hint}")


def _stray(words: Sequence[str], takes_input: bool, inputs: Sequence[str]) -> str:
    """Return what is wrong with words that are no options, and what was probably meant."""
    stray = [word for word in words if not word.startswith("-")]
    seen = f"unexpected argument {stray[0]!r}"
    if not takes_input:
        return f"{seen} (a value with spaces needs quotes)"
    files = [*inputs, *stray]
    enough = len(files) > 2 or (bool(inputs) and all(map(os.path.isfile, files)))
    if enough and all(map(os.path.lexists, files)):
        ending = os.path.splitext(stray[0])[1]  # noqa: PTH122
        pattern = os.path.join(os.path.dirname(stray[0]), f"*{ending}")  # noqa: PTH118, PTH120
        return (
            f"{seen} and {len(files) - 1:,} other files: the shell has replaced a pattern by its "
            f"files. Put the pattern in quotes: --input {shlex.quote(pattern)}"
        )
    if not inputs:
        meant = "".join(
            f" {option} {shlex.quote(word)}"
            for option, word in zip(("--input", "--output"), stray, strict=False)
        )
        return f"{seen}: did you mean{meant}?"
    return f"{seen} (a value with spaces needs quotes; each further input needs its own --input)"
