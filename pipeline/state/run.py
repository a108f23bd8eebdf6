"""Read and write ``runs/<run_id>/run.json``, a run's note for later starts and for ``show``."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from pipeline.runners.jobs import Job
from pipeline.state.summary import Summary
from transforms.parts.write import Receipt, read_receipt
from transforms.recipe import Recipe
from transforms.storage import Storage

State = Literal["planned", "published", "unchanged", "refused", "superseded"]
_LOG = logging.getLogger(__name__)
_READS = 64  # receipts read at once
_OF_SEVERAL = ("table", "others")
# The pattern of every run's id.
RUN_ID = r"\d{8}T\d{6}(?:\.\d{3})?Z-[0-9a-f]{4}"


@dataclass(frozen=True, slots=True)
class Run:
    """One night of one backbone. Holds no credentials and no runner options.

    The runs of several backbones in one night have one id. The first one's note names the others.
    It ends last, so an unfinished night is one whose first run is not finished.
    """

    run_id: str
    started_at: str  # ISO 8601, UTC
    inputs: tuple[str, ...]
    recipe: Recipe
    state: State = "planned"
    # The options that the plan depends on.
    policy: Mapping[str, Any] = field(default_factory=dict)
    # The inputs that the tables' rows come from, once the run is published.
    covers: tuple[str, ...] = ()
    plan: Summary | None = None  # the counts of the plan
    shards: tuple[str, ...] = ()
    # By table: the version that the plan was made from.
    versions: Mapping[str, int | None] = field(default_factory=dict)
    # By table: the number of rows to delete; stale/ names them.
    stale: Mapping[str, int] = field(default_factory=dict)
    # By table: the number of unlisted rows to keep.
    kept: Mapping[str, int] = field(default_factory=dict)
    # Type of the table's column ``source`` after the run (``transforms.carried``); None for a run
    # that carries nothing.
    carried: Any = None
    # Whether the plan has an index of the vectors that exist already.
    reuse: bool = False
    # The default of a later 'publish'.
    max_failure_rate: float = 0.1
    # The last job that was submitted to a service that keeps jobs without their driver.
    job: Job | None = None
    summary: Mapping[str, Any] | None = None
    ended_at: str = ""  # ISO 8601, UTC; "" for an unfinished run
    # Name of the backbone's pair of tables; "" for the first.
    table: str = ""
    # In the first run's note: the names of the other pairs.
    others: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The run's folder in the output."""
        return _folder(self.run_id, self.table)

    @property
    def nothing_to_do(self) -> bool:
        """Whether the run changes nothing in the tables."""
        return not (self.references or self.shards or any(self.stale.values()))

    @property
    def rebuild(self) -> bool:
        """Whether the run replaces the whole tables."""
        return bool(self.policy.get("rebuild"))

    @property
    def counts(self) -> Summary:
        """The counts of the plan; zeros for a run without a plan."""
        return self.plan or Summary(self.run_id)

    @property
    def references(self) -> int:
        """The number of images to do, over all shards."""
        return self.counts.todo

    def save(self, output: Storage) -> Run:
        """Write the note, and return the run."""
        noted = json.dumps(_without_empty(asdict(self)), ensure_ascii=False, indent=1)
        output.write(f"{self.folder}/run.json", noted.encode())
        return self

    def end(self, output: Storage, state: State, summary: Summary | None = None) -> Run:
        """Write how the run ended, and return the ended run."""
        ended = asdict(replace(summary, state=state)) if summary else None
        now = datetime.now(UTC).isoformat()
        return replace(self, state=state, summary=ended, ended_at=now).save(output)

    def receipts(self, output: Storage) -> list[Receipt]:
        """Return all receipts so far, in the order of their shards."""
        return read_receipts(output, sorted(self.receipt_keys(output)))

    def receipt_keys(self, output: Storage) -> list[str]:
        """Return the keys of all receipts so far."""
        return [entry.key for entry in output.list(f"{self.folder}/receipts/")]

    def forget(self, receipt: Receipt, output: Storage) -> None:
        """Delete a receipt, so that its shard is done again."""
        output.delete(f"{self.folder}/receipts/{receipt.shard}.json")


def _without_empty(note: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only a night with several backbones notes."""
    kept = {name: value for name, value in note.items() if value or name not in _OF_SEVERAL}
    summaries = {name: kept[name] for name in ("plan", "summary") if kept[name]}
    return kept | {name: _without_empty_table(values) for name, values in summaries.items()}


def _without_empty_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if value or name != "table"}


def read_receipts(output: Storage, keys: Sequence[str]) -> list[Receipt]:
    """Read many receipts at once: a bucket takes some 40 ms for each.

    Args:
        output: The output.
        keys: Keys of the receipts in the output.

    Returns:
        The receipts in the order of the keys. One that cannot be read is logged and left out.
    """
    with ThreadPoolExecutor(_READS) as pool:
        return [
            receipt for receipt in pool.map(lambda key: read_receipt(output, key), keys) if receipt
        ]


def new_run_id(output: Storage) -> str:
    """Return an id that sorts after all runs in the output: ``20261124T221943.127Z-1f9c``.

    The id holds the time. If the clock of an earlier run was ahead, the id holds that run's time
    plus a millisecond. So ids sort in the order in which the runs came, whatever their clocks said.
    """
    moment = datetime.now(UTC)
    if before := max(_run_ids(output), default=None):
        moment = max(moment, _moment_after(before) or moment)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{secrets.token_hex(2)}"


def _moment_after(run_id: str) -> datetime | None:
    """Return an id's time plus a millisecond; None for an invalid time, as in month 13."""
    digits, _, milliseconds = run_id.partition("Z")[0].partition(".")
    try:
        latest = datetime.strptime(f"{digits}.{milliseconds or 999}+0000", "%Y%m%dT%H%M%S.%f%z")
        return latest + timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def _run_ids(output: Storage) -> list[str]:
    """Return the ids of all run folders, also of those without a note; ignore other folders."""
    return [
        name
        for name in output.folders("runs/")
        if re.fullmatch(RUN_ID, name) and _moment_after(name)
    ]


def load_runs(output: Storage, limit: int, table: str = "", before: str = "") -> list[Run]:
    """Return the newest runs that got as far as a plan, newest first.

    Args:
        output: The output.
        limit: Max number of runs.
        table: Name of the backbone's pair of tables; "" for the first.
        before: The id of a run; only earlier ones are returned. By default all are.
    """
    return list(islice(_newest_first(output, table, before), limit))


def latest_run(output: Storage) -> Run | None:
    """Return the newest run that got as far as a plan; None when there is none."""
    return next(_newest_first(output), None)


def last_good_run(output: Storage, table: str = "") -> Run | None:
    """Return the newest run that published, or found nothing to change; None without one.

    The tables correspond to its listing.
    """
    runs = _newest_first(output, table)
    return next((run for run in runs if run.state in ("published", "unchanged")), None)


def _newest_first(output: Storage, table: str = "", before: str = "") -> Iterator[Run]:
    for run_id in sorted(_run_ids(output), reverse=True):
        if before and run_id >= before:
            continue
        if run := load_run(output, run_id, table):
            yield run


def _folder(run_id: str, table: str) -> str:
    return f"runs/{run_id}/{table}".rstrip("/")


def _decode(data: bytes) -> Run:
    noted = json.loads(data)
    # The note of another version may have more fields, or fewer.
    values = {f.name: noted[f.name] for f in fields(Run) if f.name in noted}
    plan = Summary.of(values["plan"]) if values["plan"] else None
    job = Job(**values["job"]) if values.get("job") else None
    lists = {name: tuple(values[name]) for name in ("inputs", "covers", "shards")}
    lists["others"] = tuple(values.get("others", ()))
    return Run(**{**values, **lists, "plan": plan, "job": job})


def unfinished_run(output: Storage) -> Run | None:
    """Return the newest run if it is unfinished: running at this moment, or to be resumed."""
    latest = latest_run(output)
    return latest if latest and latest.state == "planned" else None


def load_run(output: Storage, run_id: str, table: str = "") -> Run | None:
    """Read the note of one run.

    Args:
        output: The output.
        run_id: The id of the night.
        table: Name of the backbone's pair of tables; "" for the first.

    Returns:
        The run; None if there is no note, or if it cannot be read, which is logged.
    """
    key = f"{_folder(run_id, table)}/run.json"
    if not output.exists(key):
        return None
    try:
        return _decode(output.read(key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning(
            "the note %s of a run cannot be read (%s); it is ignored",
            key,
            error,
        )
        return None
