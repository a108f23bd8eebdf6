"""Define the options that several commands share, and build a ``Config`` from them.

This module imports neither Beam nor TensorFlow, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from pipeline.commands.base import Parser
from pipeline.commands.network_options import NETWORK, backbone_options, compute_options
from pipeline.config import Config
from pipeline.targets import split_backbone

# What the command line gives by --backbone.
_BACKBONES = ("network", "backbones", "table")
_OWN = [f for f in fields(Config) if f.name not in _BACKBONES]
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in _OWN} | NETWORK


def config_of(arguments: argparse.Namespace) -> Config:
    """Build the configuration from the command line of ``extract`` or ``plan``.

    Raises:
        UserError: An option is invalid.
    """
    values = {name: getattr(arguments, name) for name in _DEFAULTS}
    texts = tuple(arguments.backbones)
    if texts:
        values["backbone"], options = split_backbone(texts[0])
        texts = texts if len(texts) > 1 or options else ()
    return Config.of(**{**values, "inputs": tuple(values["inputs"]), "backbones": texts})


def output_argument(parser: Parser) -> None:
    """Add the argument for the output, local or in a bucket."""
    parser.add_argument("output", metavar="OUTPUT", help="folder or URL that extract wrote")
    store_option(parser)


def table_option(parser: Parser) -> None:
    """Add the option that names the tables of a further backbone."""
    parser.add_argument(
        "--table",
        metavar="NAME",
        default="",
        help="work on features-NAME and errors-NAME, the tables of a further --backbone",
    )


def run_options(parser: Parser) -> None:
    """Add the options of a run, which ``extract`` and ``plan`` share."""
    places = parser.add_argument_group("where from, where to")
    places.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        dest="inputs",
        default=[],
        help="a folder, a prefix, a glob (*, **, ?, […]), local or gs://, s3://, az://, file://; "
        "a container (.tar, .zip, .tfrecord, .parquet), a glob of containers, or a range such as "
        "'shards/{000..099}.tar'; list:FILE with one URI a line (list:- reads standard input); or "
        "manifest:FILE, a CSV, JSON lines or Parquet file with a column of URIs. May be given "
        "several times",
    )
    places.add_argument(
        "--image-column",
        metavar="NAME",
        help="column of a Parquet file, or feature of a TFRecord, that holds the images' bytes "
        "(default: find it)",
    )
    places.add_argument(
        "--uri-column",
        metavar="NAME",
        help="column of a manifest that names the images (default: the first of uri, url, path, "
        "file_name, image_path)",
    )
    places.add_argument(
        "--carry",
        metavar="COLUMN[,COLUMN…]",
        type=lambda text: tuple(name for name in text.split(",") if name),
        default=(),
        help="columns of manifests and containers to keep in the table's column 'source'; 'all' "
        "keeps all",
    )
    places.add_argument("--output", metavar="DIR_OR_URL", default="", help="folder of the tables")
    store_option(places)
    backbone_options(parser, several=True)
    compute_options(parser)
    limit_options(parser)
    _run_group(parser)
    set_here = ("inputs", "output", "stores", "carry")
    parser.set_defaults(**{name: _DEFAULTS[name] for name in _DEFAULTS if name not in set_here})


def _run_group(parser: Parser) -> None:
    """Add the group of options that control a run."""
    run = parser.add_argument_group("the run")
    _worker_options(run)
    _publishing_options(run)
    run.add_argument("--dry-run", action="store_true", help="list and compare only; write nothing")
    run.add_argument(
        "--stall-timeout",
        type=float,
        metavar="SECONDS",
        help="fail after this time without progress of any worker; 0 waits for ever",
    )
    metrics_options(run)
    run.add_argument(
        "--runner", metavar="NAME", help="Beam runner (default: none, this process does the work)"
    )


def _worker_options(run: argparse._ActionsContainer) -> None:
    """Add the options of the workers, and of the units that they work on."""
    run.add_argument(
        "--cores-per-worker",
        type=int,
        metavar="N",
        help="cores of each worker process (default: all, shared among local processes)",
    )
    run.add_argument(
        "--accelerator",
        metavar="HINT",
        help="accelerator of the extraction's workers, on a cluster that assigns one, as in "
        "'type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver'",
    )
    run.add_argument("--shard-size", type=int, metavar="N", help="max images in one unit of work")
    run.add_argument(
        "--shard-bytes",
        type=int,
        metavar="N",
        help="a unit of work ends after this many bytes, so that large images make no straggler",
    )


def _publishing_options(run: argparse._ActionsContainer) -> None:
    """Add the options that say which rows a run publishes, and when it refuses to."""
    run.add_argument(
        "--max-failure-rate",
        type=float,
        metavar="SHARE",
        help="refuse to publish when more than this share of the tried images fail; where the "
        "cause lies in the images themselves, more than this share of all listed images",
    )
    run.add_argument(
        "--max-removed-rate",
        type=float,
        metavar="SHARE",
        help="refuse to publish when more than this share of the table's images are no longer "
        "listed; 1 allows all",
    )
    run.add_argument(
        "--keep-removed",
        action="store_true",
        help="keep the rows of images that are no longer listed",
    )
    run.add_argument(
        "--retry-failed",
        action="store_true",
        help="try all failed images again, also those whose failure lies in the image itself",
    )
    run.add_argument(
        "--rebuild",
        action="store_true",
        help="extract all images again and replace the table, in one commit",
    )


def store_option(group: argparse._ActionsContainer) -> None:
    """Add the option that says where buckets are."""
    group.add_argument(
        "--store",
        action="append",
        metavar="s3://BUCKET,KEY=VALUE",
        dest="stores",
        default=[],
        help="where a bucket is, or all buckets (s3://,…), if not where the environment says: "
        "endpoint, region, account, anonymous, allow-http; may be given several times. Credentials "
        "come from the environment only",
    )


def metrics_options(parser: Any) -> None:
    """Add the options that say where a run's metrics go."""
    text = "append a line of JSON to this file for each run, also a failed one; - is stdout"
    parser.add_argument("--metrics-json", metavar="PATH_OR_-", help=text)
    text = (
        "write the last run's metrics to this file, for the textfile collector of Prometheus' "
        "node_exporter"
    )
    parser.add_argument("--metrics-prometheus", metavar="PATH", help=text)


def limit_options(parser: Parser) -> None:
    """Add the limits for images, which are checked before decoding."""
    group = parser.add_argument_group("limits, checked before an image is decoded")
    group.add_argument("--max-image-bytes", type=int, metavar="N", help="larger files fail")
    group.add_argument("--max-pixels", type=int, metavar="N", help="images with more pixels fail")
    parser.set_defaults(**{name: _DEFAULTS[name] for name in ("max_image_bytes", "max_pixels")})
