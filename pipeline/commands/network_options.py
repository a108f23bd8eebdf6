"""Define the options of the network and of its computing, which several commands share."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

from pipeline.commands.base import Parser
from pipeline.config import Config
from transforms.choices import (
    BackboneConfig,
    EngineName,
    Layout,
    Normalize,
    Pooling,
    Precision,
    ResizeMode,
    Scores,
    ValueMode,
    words,
)
from transforms.mean_std import read_colors

NETWORK = {f.name: f.default for f in fields(BackboneConfig) if f.name != "stores"}
_COMPUTE = ("resize", "precision", "engine", "require_accelerator")


def backbone_options(parser: Parser, several: bool = False) -> None:
    """Add the options of the network, its weights and its labels.

    Args:
        parser: Of the command.
        several: Whether the command takes more than one backbone, as ``backbones``.
    """
    group = parser.add_argument_group("the network")
    add = group.add_argument
    name = (
        "a name that 'image-features backbones' lists, or your own .keras, .h5, .onnx or "
        "SavedModel, or hub:PRESET of KerasHub"
    )
    if several:
        add(
            "--backbone",
            action="append",
            metavar="NAME_OR_PATH[,OPTION=VALUE…]",
            dest="backbones",
            default=[],
            help=f"{name}. May be given several times: the images are read and decoded once, and "
            "each further one fills tables features-NAME and errors-NAME. Options of one backbone "
            "follow it, as in 'ResNet50,normalize=l2,table=NAME' (default: efficientnet_lite0)",
        )
    else:
        add("--backbone", metavar="NAME_OR_PATH", help=name)
    add(
        "--weights",
        metavar="imagenet|random|PATH",
        help="imagenet, random (seeded), or a weights file",
    )
    add(
        "--labels",
        metavar="PATH",
        help="text file with one label a line (default: the backbone's own)",
    )
    add(
        "--head",
        metavar="PATH",
        help="a head that 'image-features train' saved: it gives the labels and their scores",
    )
    add(
        "--classes",
        metavar="PATH",
        help="text file with one class a line, for a preset of KerasHub with a tower for texts: "
        "its words give the labels, without training",
    )
    add("--prompt", metavar="TEXT", help="what is said of a class, with {} in its place")
    add(
        "--feature-layer",
        metavar="NAME",
        help="layer whose output is the vector (default: the pooled features)",
    )
    add(
        "--pooling",
        choices=words(Pooling),
        help="how a feature map or tokens become a vector; cls: the first token (default: avg of a "
        "map)",
    )
    add(
        "--input-size",
        type=int,
        metavar="PIXELS",
        help="height and width (default: the backbone's own)",
    )
    add(
        "--preprocess",
        metavar="MODE",
        help=f"value range that your own model expects: {', '.join(words(ValueMode))}",
    )
    for option, kind in (("mean", "mean"), ("std", "deviation")):
        add(
            f"--{option}",
            metavar="R,G,B",
            type=partial(read_colors, option),
            help=f"{kind} of red, green and blue that your own model expects of pixels / 255, "
            "instead of --preprocess",
        )
    add(
        "--layout",
        choices=words(Layout),
        help="order of the axes of an ONNX file's input (default: found out, or asked for)",
    )
    add("--normalize", choices=words(Normalize), help="l2: vectors of length 1")
    add("--top-k", type=int, metavar="K", help="number of labels for each image; 0 for none")
    add(
        "--allow-code",
        action="store_true",
        help="load a model file that contains code; this code can do anything",
    )
    add(
        "--scores",
        choices=words(Scores),
        help="function to apply to the outputs of your own model (default: found out, or refused)",
    )
    parser.set_defaults(**NETWORK)


def compute_options(parser: Parser) -> None:
    """Add the options that say how the vectors are computed."""
    group = parser.add_argument_group("how it computes")
    add = group.add_argument
    add(
        "--resize",
        choices=words(ResizeMode),
        help="squash: the whole image, without its aspect ratio; crop: the middle square; with "
        "-bicubic: by another kernel than the bilinear one (default: "
        "as your own model was trained, if its model.json says so; otherwise squash)",
    )
    add("--precision", choices=words(Precision), help="precision of the network's arithmetic")
    add(
        "--engine",
        choices=words(EngineName),
        help="auto: xla where there is a GPU or TPU and JAX is installed for it; otherwise "
        "openvino where it is installed and there is no GPU; otherwise tensorflow",
    )
    add(
        "--require-accelerator",
        action="store_true",
        help="fail where no GPU or TPU is seen, or is not used, instead of computing on a CPU",
    )
    parser.set_defaults(**{f.name: f.default for f in fields(Config) if f.name in _COMPUTE})
