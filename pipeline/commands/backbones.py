"""``image-features backbones``: list the available backbones."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say

_WEIGHTS = {"embedded": "embedded", "keras": "downloaded by Keras, or --weights PATH"}
_OWN_MODEL = (
    "PATH of a .keras, .h5 or SavedModel",
    "its own",
    "its own",
    "its own",
    "must be given: they are in the file",
)


def _add_options(parser: Parser) -> None:
    pass


def _run(arguments: argparse.Namespace) -> int:
    say(_backbones_table())
    return EXIT_PUBLISHED


def _backbones_table() -> str:
    """Format the backbones with vector length, input size, parameters and source of weights."""
    from pipeline.reports.text import format_table
    from transforms.backbones import BACKBONES

    rows = [
        (
            backbone.name,
            str(backbone.dimension),
            f"{backbone.size}×{backbone.size}",
            f"{backbone.parameters:.1f} M",
            _WEIGHTS[backbone.weights],
        )
        for backbone in BACKBONES.values()
    ]
    return format_table([("name", "vector", "input", "parameters", "weights"), *rows, _OWN_MODEL])


COMMAND = Command("backbones", "list the backbones", _add_options, _run)
