"""The note of a run, ``runs/<run_id>/run.json``: what a later start needs to go on, and what ``show`` prints."""

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
RUN_ID = r"\d{8}T\d{6}(?:\.\d{3})?Z-[0-9a-f]{4}"  # what every run's id looks like


@dataclass(frozen=True, slots=True)
class Run:
    """One night. Holds no credentials and no runner options."""

    run_id: str
    started_at: str  # ISO 8601, UTC
    inputs: tuple[str, ...]
    recipe: Recipe
    state: State = "planned"
    # The options that the plan depends on
    policy: Mapping[str, Any] = field(default_factory=dict)
    # The inputs that the tables' rows come from, once it is published
    covers: tuple[str, ...] = ()
    plan: Summary | None = None  # the counts of the plan
    shards: tuple[str, ...] = ()
    versions: Mapping[str, int | None] = field(
        default_factory=dict
        # Of the tables that the plan was made from
    )
    stale: Mapping[str, int] = field(
        default_factory=dict
        # By table: rows that leave it, named in stale/
    )
    kept: Mapping[str, int] = field(
        default_factory=dict
        # By table: rows that stay though nothing lists them
    )
    # The plan has an index of the vectors that there are
    reuse: bool = False
    # For a 'publish' that is not told another
    max_failure_rate: float = 0.1
    job: Job | None = (
        # The last one that was submitted to a service that keeps it when its driver has gone
        None
    )
    summary: Mapping[str, Any] | None = None

    @property
    def folder(self) -> str:
        """Its folder in the output."""
        return f"runs/{self.run_id}"

    @property
    def rebuild(self) -> bool:
        """Whether it replaces the whole tables."""
        return bool(self.policy.get("rebuild"))

    @property
    def counts(self) -> Summary:
        """What the plan counted; nothing for a run without a plan."""
        return self.plan or Summary(self.run_id)

    @property
    def references(self) -> int:
        """Images to do, over all shards."""
        return self.counts.todo

    def save(self, output: Storage) -> Run:
        """Write the note."""
        output.write(
            f"{self.folder}/run.json",
            json.dumps(asdict(self), ensure_ascii=False, indent=1).encode(),
        )
        return self

    def end(self, output: Storage, state: State, summary: Summary | None = None) -> Run:
        """Write how the run ended."""
        ended = asdict(replace(summary, state=state)) if summary else None
        return replace(self, state=state, summary=ended).save(output)

    def receipts(self, output: Storage) -> list[Receipt]:
        """All receipts so far, by shard."""
        return read_receipts(output, sorted(self.receipt_keys(output)))

    def receipt_keys(self, output: Storage) -> list[str]:
        """Where they lie."""
        return [entry.key for entry in output.list(f"{self.folder}/receipts/")]

    def forget(self, receipt: Receipt, output: Storage) -> None:
        """Have a shard done again."""
        output.delete(f"{self.folder}/receipts/{receipt.shard}.json")


def read_receipts(output: Storage, keys: Sequence[str]) -> list[Receipt]:
    """Read many at once: a bucket takes some 40 ms for each.

    One that cannot be read is named and left out.
    """
    with ThreadPoolExecutor(_READS) as pool:
        return [
            receipt for receipt in pool.map(lambda key: read_receipt(output, key), keys) if receipt
        ]


def new_run_id(output: Storage) -> str:
    """Sorts after all runs in the output: ``20261124T221943.127Z-1f9c``.

    It says the time, unless a run is there whose clock was ahead: then it follows that one by a
    millisecond. So the order of runs is that in which they came, whatever their clocks said.
    """
    moment = datetime.now(UTC)
    if before := max(_run_ids(output), default=None):
        moment = max(moment, _moment_after(before) or moment)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{secrets.token_hex(2)}"


def _moment_after(run_id: str) -> datetime | None:
    """A millisecond after the time that an id says; None where there is no such time, as in month 13."""
    digits, _, milliseconds = run_id.partition("Z")[0].partition(".")
    try:
        latest = datetime.strptime(f"{digits}.{milliseconds or 999}+0000", "%Y%m%dT%H%M%S.%f%z")
        return latest + timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def _run_ids(output: Storage) -> list[str]:
    """Of all folders that a run made, one without a note too; other folders are not ours."""
    return [
        name
        for name in output.folders("runs/")
        if re.fullmatch(RUN_ID, name) and _moment_after(name)
    ]


def load_runs(output: Storage, most: int) -> list[Run]:
    """The newest runs that got as far as a plan, newest first."""
    return list(islice(_newest_first(output), most))


def latest_run(output: Storage) -> Run | None:
    """Return the newest run that got as far as a plan; None when there is none."""
    return next(_newest_first(output), None)


def last_good_run(output: Storage) -> Run | None:
    """The newest run whose listing the tables stand for: it published, or found nothing to change."""
    return next(
        (run for run in _newest_first(output) if run.state in ("published", "unchanged")), None
    )


def _newest_first(output: Storage) -> Iterator[Run]:
    for run_id in sorted(_run_ids(output), reverse=True):
        if run := load_run(output, run_id):
            yield run


def _decode(data: bytes) -> Run:
    noted = json.loads(data)
    values = {
        f.name: noted[f.name]
        for f in fields(Run)
        if f.name in noted
        # Another version may say more, or less
    }
    plan = Summary.of(values["plan"]) if values["plan"] else None
    job = Job(**values["job"]) if values.get("job") else None
    lists = {name: tuple(values[name]) for name in ("inputs", "covers", "shards")}
    return Run(**{**values, **lists, "plan": plan, "job": job})


def unfinished_run(output: Storage) -> Run | None:
    """The newest run if it is without an end: at work at this moment, or broken off and to be taken up."""
    latest = latest_run(output)
    return latest if latest and latest.state == "planned" else None


def load_run(output: Storage, run_id: str) -> Run | None:
    """The note of one run; None if it is not there, or, said in a line, if it cannot be read."""
    key = f"runs/{run_id}/run.json"
    if not output.exists(key):
        return None
    try:
        return _decode(output.read(key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning(
            "the note %s of a run cannot be read (%s); it counts as if it were not there",
            key,
            error,
        )
        return None
