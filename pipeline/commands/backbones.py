"""``image-features backbones``: list the available backbones, or look into a model of one's own."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, say
from pipeline.commands.options import store_option
from transforms.choices import BackboneConfig, Layout, words
from transforms.names import printable

_WEIGHTS = {"embedded": "embedded", "keras": "downloaded by Keras, or --weights PATH"}
_OWN_MODEL = (
    "PATH of a .keras, .h5, .onnx or SavedModel",
    "its own",
    "its own",
    "its own",
    "must be given: they are in the file",
)


def _add_options(parser: Parser) -> None:
    parser.add_argument(
        "--inspect",
        metavar="MODEL",
        help="list the layers of a .keras, .h5, .onnx or SavedModel that can be the vector, its "
        "outputs, and the options to use",
    )
    parser.add_argument(
        "--input-size", type=int, metavar="PIXELS", help="of a model that takes images of any size"
    )
    parser.add_argument(
        "--layout", choices=words(Layout), default="auto", help="of an ONNX file's input"
    )
    store_option(parser)
    parser.add_argument(
        "--allow-code", action="store_true", help="load a model file that contains code"
    )


def _run(arguments: argparse.Namespace) -> int:
    say(_inspection(arguments) if arguments.inspect else _backbones_table())
    return EXIT_PUBLISHED


def _inspection(arguments: argparse.Namespace) -> str:
    """Look into a model, and format what was found."""
    from pipeline.reports.text import format_table
    from transforms.backbones.custom import inspect

    found = inspect(
        BackboneConfig(
            backbone=arguments.inspect,
            input_size=arguments.input_size,
            layout=arguments.layout,
            allow_code=arguments.allow_code,
            stores=tuple(arguments.stores),
        )
    )
    rows = [(layer.name, layer.kind, layer.shape, str(layer.numbers)) for layer in found.layers]
    header = ("layer", "kind", "shape", "numbers in its vector")
    lines = [
        f"takes {found.takes}",
        *(f"gives {output}" for output in found.gives),
        f"vector without --feature-layer: {found.vector or 'none; name a layer'}",
        *(f"option {option}" for option in found.options),
    ]
    return "\n".join([format_table([header, *rows]), "", *map(printable, lines)])


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


COMMAND = Command(
    "backbones", "list the backbones, or look into a model of your own", _add_options, _run
)
