"""``image-features completion``: print a script that completes options in a shell."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser

_SHELLS = ("bash", "zsh", "tcsh")
_EXAMPLES = """\
examples:
  image-features completion bash > ~/.local/share/bash-completion/completions/image-features
  image-features completion zsh > ~/.zfunc/_image-features    # with fpath+=~/.zfunc
"""


def _add_options(parser: Parser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="the shell to write for")


def _run(arguments: argparse.Namespace) -> int:
    import shtab

    from pipeline.commands.parser import command_parser

    print(shtab.complete(command_parser(), arguments.shell))
    return EXIT_PUBLISHED


COMMAND = Command(
    "completion",
    "print a script with which a shell completes commands and options",
    _add_options,
    _run,
    epilog=_EXAMPLES,
)
