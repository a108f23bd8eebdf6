"""Make the report of a night: gather what it says, judge it, write the page."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from posixpath import relpath
from typing import Any

from pipeline.reports.html import check_page, check_templates
from pipeline.reports.night.content import Content
from pipeline.reports.night.drift import Drift, measure
from pipeline.reports.night.facts import Facts, Night, read_facts
from pipeline.reports.night.pictures import choose_pictures
from pipeline.reports.night.sample import Sample, draw, read_sample, reference
from pipeline.reports.night.verdict import Verdict, judge
from pipeline.tables import Table, Tables
from transforms.errors import Damaged
from transforms.storage import NotFound, Storage, StorageError, open_storage
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
_FORTNIGHT = 14


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Which night to report, and how."""

    table: str = ""  # name of the pair of tables; "" for the first one
    run_id: str | None = None  # None for the newest run
    pictures: bool = True  # whether the page shows images
    stores: Stores = ()  # where buckets are
    price: float | None = None  # of an hour of a worker, for the cost of the night


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a night."""

    run_id: str
    verdict: Verdict
    drift: Drift | None  # None without enough earlier or new images
    content: Content

    @property
    def html(self) -> str:
        """The page, for a file anywhere.

        Raises:
            UserError: The extra is not installed.
        """
        return self.page()

    def page(self, before: str = "") -> str:
        """Return the page.

        Args:
            before: A link from the page to that of the night before; "" for none.

        Raises:
            UserError: The extra is not installed.
        """
        check_templates()
        from pipeline.reports.night.page import night_page

        return night_page(self.content, before)

    def metrics(self) -> dict[str, Any]:
        """Return the figures for a scheduler, as JSON holds them."""
        drift = self.drift
        return {
            "run_id": self.run_id,
            "verdict": self.verdict.sentence,
            "unusual": list(self.verdict.unusual),
            "novelty": drift and round(drift.novelty, 4),
            "components": drift and round(drift.components, 4),
            "separability": drift and round(drift.separability, 4),
        }


def report_night(output: str | PathLike[str], config: ReportConfig | None = None) -> Report:
    """Report a night: published, unchanged, refused, or not finished yet.

    Keeps a sample of earlier images in ``reference/`` of the output, and the figures of the night
    beside its note; who may only read the output gets the same report.

    Args:
        output: Folder or URL of the tables.
        config: Which night, and how.

    Raises:
        UserError: There is no such run.
        Damaged: A part cannot be read.
        StorageError: The output cannot be read.
    """
    config = config or ReportConfig()
    storage = open_storage(fspath(output), config.stores)
    tables = Tables.open(storage, config.table)
    facts = read_facts(storage, tables, config.run_id)
    features = tables.features
    tonight = read_sample(features, draw(features, facts.rows))
    earlier = _earlier(features, storage, facts.tonight.run.run_id)
    drift = measure(earlier.vectors, tonight.vectors) if earlier else None
    zeros = int((~tonight.vectors.any(axis=1)).sum()) if len(tonight.vectors) else 0
    verdict = judge(facts, drift, zeros, _novelties(facts.before, storage))
    pictures = None
    if config.pictures:
        pictures = choose_pictures(facts, tonight, drift, storage, tables, config.stores)
    content = Content(facts, verdict, tonight, earlier, drift, pictures, config.price)
    made = Report(facts.tonight.run.run_id, verdict, drift, content)
    _note(made, facts, storage)
    return made


def write_report(made: Report, place: str, stores: Stores = ()) -> None:
    """Write a page to a file on this machine or in a bucket.

    Raises:
        UserError: The place is no file, or the extra is not installed.
        StorageError: The file cannot be written.
    """
    check_page(place)
    folder, found, name = place.rpartition("/")
    open_storage((folder or "/") if found else ".", stores).write(name, made.html.encode())


def keep_report(made: Report, output: str, stores: Stores = ()) -> str:
    """Write a page to the folder of its run, with a link to that of the night before.

    Args:
        made: The report.
        output: Folder or URL of the tables.
        stores: Where buckets are.

    Returns:
        The page's key in the output.

    Raises:
        UserError: The extra is not installed.
        StorageError: The page cannot be written.
    """
    storage = open_storage(output, stores)
    facts = made.content.facts
    folder = facts.tonight.run.folder
    before = [_page_key(night.run.folder) for night in facts.before[:1]]
    links = [relpath(key, folder) for key in before if storage.exists(key)]
    key = _page_key(folder)
    storage.write(key, made.page(*links).encode())
    return key


def _page_key(folder: str) -> str:
    return f"{folder}/report.html"


def _earlier(features: Table, storage: Storage, run_id: str) -> Sample | None:
    if features.version is None:
        return None
    try:
        return reference(features, storage, run_id)
    except Damaged as error:
        # The report is read when something is broken.
        _LOG.warning("earlier images are not compared: %s", error)
        return None


def _key(night: Night) -> str:
    return f"{night.run.folder}/drift.json"


def _note(made: Report, facts: Facts, storage: Storage) -> None:
    """Keep the figures of a night for the reports of later ones."""
    if made.drift is None:
        return
    try:
        storage.write(_key(facts.tonight), json.dumps(made.metrics()).encode())
    except StorageError as error:
        _LOG.warning("the figures of the night are not kept: %s", error)


def _novelties(before: Sequence[Night], storage: Storage) -> list[float]:
    """Return the novelty of the last nights that have a report."""
    found = []
    for night in before[:_FORTNIGHT]:
        try:
            value = json.loads(storage.read(_key(night)))["novelty"]
            found.append(float(value))
        except NotFound:
            continue
        except (ValueError, KeyError, TypeError) as error:
            _LOG.warning("%s cannot be read (%s); it is ignored", _key(night), error)
    return found
