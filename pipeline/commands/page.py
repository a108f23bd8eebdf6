"""Write the page about a night when ``extract`` or ``publish`` ends, however it ends."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from pipeline.commands.base import price
from transforms.errors import UserError
from transforms.storage.urls import without_password

_LOG = logging.getLogger(__name__)
_NONE = "none"


def page_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that says where the page goes."""
    parser.add_argument(
        "--report",
        metavar="FILE_OR_URL",
        help="write the page about the night there, with images, also when the run fails; 'none' "
        "writes none (default: runs/ID/report.html of the output, without images, if the extra "
        "'report' is installed)",
    )
    price_option(parser)


def price_option(parser: argparse._ActionsContainer) -> None:
    """Add the option that gives the cost of a night."""
    parser.add_argument(
        "--price-per-worker-hour",
        type=price,
        metavar="PRICE",
        help="what an hour of one worker costs, in any currency: the page says what the night cost",
    )


@contextmanager
def night_page(arguments: argparse.Namespace, wanted: bool = True) -> Iterator[None]:
    """Write the page of the run that the block does; an error of it changes nothing.

    Args:
        arguments: Of the command: ``output``, ``stores`` and ``report``.
        wanted: Whether the block may end a run.

    Yields:
        Nothing.

    Raises:
        UserError: No page can be made for ``--report``; before the block.
    """
    from pipeline.reports.html import check_page, has_templates

    if arguments.report not in (None, _NONE):
        check_page(arguments.report)
    wanted = wanted and arguments.report != _NONE and has_templates()
    start = datetime.now(UTC)
    try:
        yield
    except UserError:
        # Nothing was done.
        raise
    except Exception:
        if wanted:
            _write(arguments, start, unfinished=True)
        raise
    if wanted:
        _write(arguments, start)


def _write(arguments: argparse.Namespace, start: datetime, unfinished: bool = False) -> None:
    """Write the pages of the newest run, if it ended since ``start`` or is not finished."""
    try:
        for place in _pages(arguments, start, unfinished):
            _LOG.info("wrote the report of the night to %s", place)
    except Exception as error:
        # Catch any error: the run has ended, and its result stands.
        _LOG.warning(
            "no report was written: %s. 'image-features report %s' tries again.",
            without_password(str(error)).rstrip("."),
            without_password(arguments.output),
        )


def _pages(arguments: argparse.Namespace, start: datetime, unfinished: bool) -> Iterator[str]:
    from pipeline.reports.night.night import ReportConfig, keep_report, report_night, write_report
    from pipeline.state.night import night_of
    from pipeline.state.run import latest_run
    from transforms.storage import open_storage

    output, stores = arguments.output, tuple(arguments.stores)
    config = ReportConfig(stores=stores, price=arguments.price_per_worker_hour)
    storage = open_storage(output, stores)
    run = latest_run(storage)
    ended = run and run.ended_at and datetime.fromisoformat(run.ended_at) >= start
    if not run or not (ended or (unfinished and run.state == "planned")):
        return
    if arguments.report:
        made = report_night(output, replace(config, run_id=run.run_id))
        write_report(made, arguments.report, stores)
        yield without_password(arguments.report)
        return
    for own in night_of(run, storage):
        # Who may read the output need not be allowed to read the images.
        own_config = replace(config, table=own.table, run_id=own.run_id, pictures=False)
        made = report_night(output, own_config)
        yield f"{storage.url}/{keep_report(made, output, stores)}"
