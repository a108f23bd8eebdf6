"""The command line's options: one parser, whose values become a ``Config``.

Imports neither Beam nor TensorFlow: ``--help`` answers at once. What is no option of ours must be one of
Beam's, and only when there is such a one is Beam asked.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from pipeline.commands.base import Formatter, Parser, count, duration, share
from pipeline.config import Config
from pipeline.runners.options import check_beam, refuse
from pipeline.runners.version import versions
from transforms.choices import BackboneConfig, EngineName, Normalize, Pooling, Precision, ResizeMode, Scores, words
from transforms.storage.settings import parse_store

_OWN = [f for f in fields(Config) if f.name != "network"]
_NETWORK = [f for f in fields(BackboneConfig) if f.name != "stores"]
_DEFAULTS: dict[str, Any] = {f.name: f.default for f in (*_OWN, *_NETWORK)}

_EXTRACT_EXAMPLES = """\
examples:
  image-features extract --input photos --output features
  image-features extract --input 's3://bucket/2024/**/*.jpg' --output s3://bucket/features --backbone ResNet50
  image-features extract --input list:uris.txt --output features --backbone model.keras --preprocess tf
  image-features extract @nightly.args

Options of Apache Beam and its runners (--runner, --direct_num_workers, …) may follow; any other is refused.
exit codes: 0 published, or nothing new; 1 the run failed or was refused; 2 the command line is wrong
"""


def command_parser() -> Parser:
    """The parser of ``image-features`` and all its commands."""
    parser = Parser(
        prog="image-features",
        description="Image collections → pooled vectors and labels from a pretrained network, in Parquet.",
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=versions(),
                        help="print the versions here, of Python and Beam too: a worker image's tag")  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    add = commands.add_parser
    extract = add(
        "extract", help="extract features of an image collection into a table", epilog=_EXTRACT_EXAMPLES,
        description="Extract features of every new image of a collection and publish them in one commit.",
        formatter_class=Formatter,
    )  # fmt: skip
    _extract_options(extract)
    _step_options(extract)
    plan = add(
        "plan", help="the first of three steps: list and compare, write the plan; 'extract --planned' is next",
        description="List, compare and write the plan of a run; with the options of 'extract'. 'extract --planned' "
        "does its shards, and 'publish' commits it.", formatter_class=Formatter,
    )  # fmt: skip
    _extract_options(plan)
    add("backbones", help="list the backbones", description="List the backbones.", formatter_class=Formatter)
    trace = add(
        "trace", help="show one photo's way through all stages", formatter_class=Formatter,
        description="Show one photo's way: loaded → resized → preprocessed → pooled vector → top-k labels.",
    )  # fmt: skip
    trace.add_argument("photo", metavar="PHOTO", help="path or URL of an image")
    trace.add_argument("--save", metavar="DIR", help="save there the picture that the network sees")
    _store_option(trace)
    _backbone_options(trace)
    _compute_options(trace)
    _limit_options(trace)
    check = add(
        "selfcheck", help="compute known vectors here, and compare", formatter_class=Formatter,
        description="Compute the golden batch with each engine that is installed, and compare with Keras' vectors.",
    )  # fmt: skip
    _backbone_options(check)
    _compute_options(check)
    show = add("show", help="show what is in an output", description="Show what is in an output.")
    show.add_argument("output", metavar="OUTPUT", help="folder or URL that extract wrote")
    show.add_argument("--rows", type=int, default=0, metavar="N", help="show the first N images too")
    _store_option(show)
    _maintenance_commands(commands)
    return parser


def _maintenance_commands(commands: Any) -> None:
    """What keeps an output in shape; each works on one output, local or in a bucket."""

    def add(name: str, text: str, epilog: str | None = None) -> Parser:
        description = f"{text[0].upper()}{text[1:]}."
        parser: Parser = commands.add_parser(
            name, help=text, description=description, epilog=epilog, formatter_class=Formatter
        )
        parser.add_argument("output", metavar="OUTPUT", help="folder or URL that extract wrote")
        _store_option(parser)
        return parser

    add("status", "tell how far the newest run is, on whatever runner; from its receipts")
    publish = add("publish", "the last of three steps: commit a run whose shards are done")
    publish.add_argument("--max-failure-rate", type=share, metavar="SHARE",
                         help="instead of the one that the run was planned with")  # fmt: skip
    _metrics_options(publish)
    add("compact", "merge small parts of the tables; extract does it by itself when there are many")
    add("history", "list the versions of the features table, newest first")
    rollback = add("rollback", "make both tables what they were at a version, in a commit on top")
    rollback.add_argument("version", type=int, metavar="VERSION", help="a number of 'history'")
    vacuum = add("vacuum", "delete files that neither a version younger than this nor an unfinished run needs")
    vacuum.add_argument("--older-than", type=duration, default="14d", metavar="TIME",
                        help="h, d or w: 36h, 14d, 2w; at least 1h (default: %(default)s)")  # fmt: skip
    vacuum.add_argument("--dry-run", action="store_true", help="list what would be deleted; delete nothing")
    verify = add("verify", "read every part again and check it", "exit codes: 0 clean; 1 problems, a line each")
    verify.add_argument("--sample", type=count, default=0, metavar="N",
                        help="compute the vectors of N images again too, from the images themselves")  # fmt: skip
    add("repair", "take parts that are gone or damaged out of the tables; the next run does their images again")


def _extract_options(parser: Parser) -> None:
    places = parser.add_argument_group("where from, where to")
    places.add_argument(
        "--input", action="append", metavar="PATTERN", dest="inputs", default=[],
        help="a folder, a prefix, a glob (*, **, ?, […]), local or gs://, s3://, az://, file://; "
        "or list:FILE with one URI a line (list:- reads standard input). May be given several times",
    )  # fmt: skip
    places.add_argument("--output", metavar="DIR_OR_URL", default="", help="folder of the tables")
    _store_option(places)
    _backbone_options(parser)
    _compute_options(parser)
    _limit_options(parser)
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
    run.add_argument("--keep-removed", action="store_true", help="keep the rows of images that are no longer listed")
    run.add_argument("--retry-failed", action="store_true",
                     help="try all failed images again, those too whose failure lies in the image")  # fmt: skip
    run.add_argument("--rebuild", action="store_true",
                     help="do all images again and replace the table, in one commit")  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="list and compare only; write nothing")
    run.add_argument("--stall-timeout", type=float, metavar="SECONDS",
                     help="give up when nothing was done for so long, by any worker; 0 waits for ever")  # fmt: skip
    _metrics_options(run)
    run.add_argument("--runner", metavar="NAME", help="Beam runner (default: DirectRunner, in this process)")
    parser.set_defaults(
        **{name: value for name, value in _DEFAULTS.items() if name not in ("inputs", "output", "stores")}
    )


def _store_option(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--store", action="append", metavar="s3://BUCKET,KEY=VALUE", dest="stores", default=[],
        help="where a bucket is, or all of them (s3://,…), if not where the environment says: endpoint, region, "
        "account, anonymous, allow-http; may be given several times. Credentials come from the environment only",
    )  # fmt: skip


def _metrics_options(parser: Any) -> None:
    text = "add a line of JSON for each run, also a failed one, to this file; - is stdout"
    parser.add_argument("--metrics-json", metavar="PATH_OR_-", help=text)
    text = "write the last run's metrics to this file, for the textfile collector of Prometheus' node_exporter"
    parser.add_argument("--metrics-prometheus", metavar="PATH", help=text)


def _step_options(parser: Parser) -> None:
    steps = parser.add_argument_group("steps")
    steps.add_argument("--planned", action="store_true",
                       help="only the shards of the run that 'plan' planned; 'publish' commits it")  # fmt: skip
    steps.add_argument("--no-wait", action="store_true",
                       help="submit, and leave a job that goes on by itself (Dataflow, or at --job_endpoint); the same "
                       "command finds it again")  # fmt: skip


def _backbone_options(parser: Parser) -> None:
    group = parser.add_argument_group("the network")
    add = group.add_argument
    add("--backbone", metavar="NAME_OR_PATH",
        help="a name of 'image-features backbones', or your own .keras, .h5 or SavedModel")  # fmt: skip
    add("--weights", metavar="imagenet|random|PATH", help="imagenet, random (seeded), or a weights file")
    add("--labels", metavar="PATH", help="text file with one label a line (default: the backbone's own)")
    add(
        "--feature-layer",
        metavar="NAME",
        help="layer whose output is the vector (default: the pooled features)",
    )
    add("--pooling", choices=words(Pooling), help="how a feature map becomes a vector")
    add("--input-size", type=int, metavar="PIXELS", help="height and width (default: the backbone's own)")
    add(
        "--preprocess",
        metavar="MODE",
        help="value range that your own model expects: caffe, tf, torch, unit, none",
    )
    add("--normalize", choices=words(Normalize), help="l2: vectors of length 1")
    add("--top-k", type=int, metavar="K", help="labels an image; 0 for none")
    add("--allow-code", action="store_true", help="load a model file that carries code; it can do anything")
    add("--scores", choices=words(Scores),
        help="what is still to be taken of your own model's outputs (default: found out, or refused)")  # fmt: skip
    parser.set_defaults(**{f.name: f.default for f in _NETWORK})


def _compute_options(parser: Parser) -> None:
    group = parser.add_argument_group("how it computes")
    add = group.add_argument
    add("--resize", choices=words(ResizeMode),
        help="squash: the whole picture, its aspect ratio given up; crop: the middle square")  # fmt: skip
    add("--precision", choices=words(Precision), help="of the network's arithmetic")
    add("--engine", choices=words(EngineName),
        help="auto: openvino on a machine without a GPU where it is installed, otherwise tensorflow")  # fmt: skip
    parser.set_defaults(**{name: _DEFAULTS[name] for name in ("resize", "precision", "engine")})


def _limit_options(parser: Parser) -> None:
    group = parser.add_argument_group("limits, checked before an image is decoded")
    group.add_argument("--max-image-bytes", type=int, metavar="N", help="larger files fail")
    group.add_argument("--max-pixels", type=int, metavar="N", help="images with more pixels fail")
    parser.set_defaults(**{name: _DEFAULTS[name] for name in ("max_image_bytes", "max_pixels")})


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line; ``beam_args`` holds what was left for Beam. Raises ``UserError``."""
    parser = command_parser()
    arguments, left = parser.parse_known_args(argv)
    if left and arguments.command not in ("extract", "plan"):
        refuse(left[0], _own_options(parser, arguments.command))
    runner = getattr(arguments, "runner", None)
    if left or runner:
        check_beam(left, _own_options(parser, arguments.command), runner)
    if runner:
        left = [*left, f"--runner={runner}"]
    arguments.beam_args = tuple(left)
    arguments.stores = tuple(map(str, getattr(arguments, "stores", ())))
    _ = [parse_store(text) for text in arguments.stores]
    return arguments


def config_of(arguments: argparse.Namespace) -> Config:
    """The run that the command line of ``extract`` or ``plan`` means."""
    values = {f.name: getattr(arguments, f.name) for f in (*_OWN, *_NETWORK)}
    return Config.of(**{**values, "inputs": tuple(values["inputs"])})


def _own_options(parser: Parser, command: str) -> list[str]:
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    chosen: argparse.ArgumentParser = subparsers.choices[command]
    return [name for action in chosen._actions for name in action.option_strings]
