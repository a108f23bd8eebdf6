"""``image-features export``: send the vectors to where they are used."""

from __future__ import annotations

import argparse

from pipeline.commands.base import EXIT_PUBLISHED, Command, Parser, count, say
from pipeline.commands.options import output_argument, table_option
from pipeline.exporting.targets import DEFAULT_COLUMNS, TARGETS, IdKind
from transforms.choices import words


def _add_options(parser: Parser) -> None:
    output_argument(parser)
    table_option(parser)
    parser.add_argument(
        "--to",
        required=True,
        metavar="TARGET[,OPTION=VALUE…]",
        help="open prints how other programs read the table where it lies; or where to send the "
        f"rows: {', '.join(TARGETS)}. docs/exports.md has the options of each",
    )
    parser.add_argument(
        "--dest", default="", metavar="URL", help="folder, bucket or database; not with --to open"
    )
    parser.add_argument(
        "--columns",
        metavar="NAME[=NEW_NAME][,…]",
        type=lambda text: tuple(name for name in text.split(",") if name),
        default=DEFAULT_COLUMNS,
        help="columns to take along, besides uri, run_id and embedding; 'all' for all (default: "
        "label,score)",
    )
    parser.add_argument(
        "--id",
        choices=words(IdKind),
        help="the form of the rows' ids, each made of the uri (default: the target's own)",
    )
    parser.add_argument(
        "--since",
        type=count,
        metavar="VERSION",
        help="the destination holds this version of the table, whatever it says itself",
    )
    parser.add_argument(
        "--replace", action="store_true", help="delete what is there, and send all rows anew"
    )


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.exporting.run import ExportConfig, export

    if arguments.to == "open":
        from pipeline.exporting.lines import open_lines

        for line in open_lines(arguments.output, arguments.table, arguments.stores):
            say(str(line))
        return EXIT_PUBLISHED
    names = ("to", "dest", "stores", "table", "id", "columns", "since", "replace")
    config = ExportConfig(**{name: getattr(arguments, name) for name in names})
    say(str(export(arguments.output, config)))
    return EXIT_PUBLISHED


COMMAND = Command(
    "export",
    "send the vectors to where they are used",
    _add_options,
    _run,
    description="Send the vectors to another place, and later only what has changed since: the "
    "place notes which version of the table it holds.",
)
