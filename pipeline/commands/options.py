"""The options that several commands share, in groups; ``config_of`` makes them a ``Config``.

Imports neither Beam nor TensorFlow: ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from pipeline.commands.base import Parser
from pipeline.config import Config
from transforms.choices import (
    BackboneConfig,
    EngineName,
    Normalize,
    Pooling,
    Precision,
    ResizeMode,
    Scores,
    words,
)

_OWN = [f for f in fields(Config) if f.name != "network"]
_NETWORK = [f for f in fields(BackboneConfig) if f.name != "stores"]
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in (*_OWN, *_NETWORK)}


def config_of(arguments: argparse.Namespace) -> Config:
    """The run that the command line of ``extract`` or ``plan`` means."""
    values = {f.name: getattr(arguments, f.name) for f in (*_OWN, *_NETWORK)}
    return Config.of(**{**values, "inputs": tuple(values["inputs"])})


def output_argument(parser: Parser) -> None:
    """The output that a command works on, local or in a bucket."""
    parser.add_argument("output", metavar="OUTPUT", help="folder or URL that extract wrote")
    store_option(parser)


def run_options(parser: Parser) -> None:
    """All options of a run that ``extract`` and ``plan`` share."""
    places = parser.add_argument_group("where from, where to")
    places.add_argument(
        "--input", action="append", metavar="PATTERN", dest="inputs", default=[],
        help="a folder, a prefix, a glob (*, **, ?, […]), local or gs://, s3://, az://, file://; "
        "or list:FILE with one URI a line (list:- reads standard input). May be given several times",
    )  # fmt: skip
    places.add_argument("--output", metavar="DIR_OR_URL", default="", help="folder of the tables")
    store_option(places)
    backbone_options(parser)
    compute_options(parser)
    limit_options(parser)
    _run_group(parser)
    set_here = ("inputs", "output", "stores")
    parser.set_defaults(**{name: _DEFAULTS[name] for name in _DEFAULTS if name not in set_here})


def _run_group(parser: Parser) -> None:
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--cores-per-worker", type=int, metavar="N",
        help="cores that each worker process computes with (default: all, shared among local processes)",
    )  # fmt: skip
    run.add_argument("--accelerator", metavar="HINT",
                     help="what the extraction's workers compute on, on a cluster that gives it out, as in "
                     "'type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver'")  # fmt: skip
    run.add_argument("--shard-size", type=int, metavar="N", help="most images in one unit of work")
    run.add_argument("--shard-bytes", type=int, metavar="N",
                     help="a unit of work ends after as many bytes: large images make no straggler")  # fmt: skip
    run.add_argument("--max-failure-rate", type=float, metavar="SHARE",
                     help="refuse to publish when more of the images tried than this share fail; where the cause lies "
                     "in the images themselves, more of all that are listed")  # fmt: skip
    run.add_argument("--max-removed-rate", type=float, metavar="SHARE",
                     help="refuse to publish when more of the table's images than this share are no longer listed; "
                     "1 allows all")  # fmt: skip
    run.add_argument(
        "--keep-removed",
        action="store_true",
        help="keep the rows of images that are no longer listed",
    )
    run.add_argument("--retry-failed", action="store_true",
                     help="try all failed images again, those too whose failure lies in the image")  # fmt: skip
    run.add_argument("--rebuild", action="store_true",
                     help="do all images again and replace the table, in one commit")  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="list and compare only; write nothing")
    run.add_argument("--stall-timeout", type=float, metavar="SECONDS",
                     help="give up when nothing was done for so long, by any worker; 0 waits for ever")  # fmt: skip
    metrics_options(run)
    run.add_argument(
        "--runner", metavar="NAME", help="Beam runner (default: DirectRunner, in this process)"
    )


def store_option(group: argparse._ActionsContainer) -> None:
    """Where buckets are."""
    group.add_argument(
        "--store", action="append", metavar="s3://BUCKET,KEY=VALUE", dest="stores", default=[],
        help="where a bucket is, or all of them (s3://,…), if not where the environment says: endpoint, region, "
        "account, anonymous, allow-http; may be given several times. Credentials come from the environment only",
    )  # fmt: skip


def metrics_options(parser: Any) -> None:
    """Where a run's metrics go."""
    text = "add a line of JSON for each run, also a failed one, to this file; - is stdout"
    parser.add_argument("--metrics-json", metavar="PATH_OR_-", help=text)
    text = "write the last run's metrics to this file, for the textfile collector of Prometheus' node_exporter"
    parser.add_argument("--metrics-prometheus", metavar="PATH", help=text)


def backbone_options(parser: Parser) -> None:
    """The network, its weights and its labels."""
    group = parser.add_argument_group("the network")
    add = group.add_argument
    add("--backbone", metavar="NAME_OR_PATH",
        help="a name of 'image-features backbones', or your own .keras, .h5 or SavedModel")  # fmt: skip
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
        "--feature-layer",
        metavar="NAME",
        help="layer whose output is the vector (default: the pooled features)",
    )
    add("--pooling", choices=words(Pooling), help="how a feature map becomes a vector")
    add(
        "--input-size",
        type=int,
        metavar="PIXELS",
        help="height and width (default: the backbone's own)",
    )
    add(
        "--preprocess",
        metavar="MODE",
        help="value range that your own model expects: caffe, tf, torch, unit, none",
    )
    add("--normalize", choices=words(Normalize), help="l2: vectors of length 1")
    add("--top-k", type=int, metavar="K", help="labels an image; 0 for none")
    add(
        "--allow-code",
        action="store_true",
        help="load a model file that carries code; it can do anything",
    )
    add("--scores", choices=words(Scores),
        help="what is still to be taken of your own model's outputs (default: found out, or refused)")  # fmt: skip
    parser.set_defaults(**{f.name: f.default for f in _NETWORK})


def compute_options(parser: Parser) -> None:
    """How the vectors are computed."""
    group = parser.add_argument_group("how it computes")
    add = group.add_argument
    add("--resize", choices=words(ResizeMode),
        help="squash: the whole picture, its aspect ratio given up; crop: the middle square")  # fmt: skip
    add("--precision", choices=words(Precision), help="of the network's arithmetic")
    add("--engine", choices=words(EngineName),
        help="auto: openvino on a machine without a GPU where it is installed, otherwise tensorflow")  # fmt: skip
    parser.set_defaults(**{name: _DEFAULTS[name] for name in ("resize", "precision", "engine")})


def limit_options(parser: Parser) -> None:
    """Which images are refused before they are decoded."""
    group = parser.add_argument_group("limits, checked before an image is decoded")
    group.add_argument("--max-image-bytes", type=int, metavar="N", help="larger files fail")
    group.add_argument("--max-pixels", type=int, metavar="N", help="images with more pixels fail")
    parser.set_defaults(**{name: _DEFAULTS[name] for name in ("max_image_bytes", "max_pixels")})
