"""The note of a run, ``runs/<run_id>/run.json``: what a later start needs to go on, and what ``show`` prints."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.summary import Summary
from transforms.recipe import Recipe
from transforms.storage import Storage
from transforms.write import Receipt, decode_receipt

State = Literal["planned", "published", "refused", "superseded"]


@dataclass(frozen=True, slots=True)
class Run:
    """One night. Holds no credentials and no runner options."""

    run_id: str
    started_at: str  # ISO 8601, UTC
    inputs: tuple[str, ...]
    recipe: Recipe
    state: State = "planned"
    rebuild: bool = False
    listed: int = 0
    references: int = 0  # images to do, over all shards
    unchanged: int = 0
    still_failed: int = 0
    ignored: int = 0
    changed: int = 0
    shards: tuple[str, ...] = ()
    versions: Mapping[str, int | None] = field(default_factory=dict)  # of the tables that the plan was made from
    summary: Mapping[str, Any] | None = None

    @property
    def folder(self) -> str:
        """Its folder in the output."""
        return f"runs/{self.run_id}"

    def save(self, output: Storage) -> Run:
        """Write the note."""
        output.write(f"{self.folder}/run.json", json.dumps(asdict(self), ensure_ascii=False, indent=1).encode())
        return self

    def end(self, output: Storage, state: State, summary: Summary | None = None) -> Run:
        """Write how the run ended."""
        return replace(self, state=state, summary=asdict(summary) if summary else None).save(output)

    def receipts(self, output: Storage) -> list[Receipt]:
        """All receipts so far, by shard."""
        found = sorted(entry.key for entry in output.list(f"{self.folder}/receipts/"))
        return [decode_receipt(output.read(key)) for key in found]

    def forget(self, receipt: Receipt, output: Storage) -> None:
        """Have a shard done again."""
        output.delete(f"{self.folder}/receipts/{receipt.shard}.json")


def new_run_id() -> str:
    """Sorts by time: ``20261124T221943Z-1f9c``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def load_runs(output: Storage, most: int) -> list[Run]:
    """The newest runs that got as far as a plan, newest first."""
    runs: list[Run] = []
    for run_id in sorted(output.folders("runs/"), reverse=True):
        if len(runs) == most:
            break
        key = f"runs/{run_id}/run.json"
        if output.exists(key):
            runs.append(_decode(output.read(key)))
    return runs


def _decode(data: bytes) -> Run:
    fields = json.loads(data)
    return Run(**{**fields, "inputs": tuple(fields["inputs"]), "shards": tuple(fields["shards"])})


def unfinished_run(output: Storage) -> Run | None:
    """The newest run if it is without an end: at work at this moment, or broken off and to be taken up."""
    latest = next(iter(load_runs(output, most=1)), None)
    return latest if latest and latest.state == "planned" else None


def load_run(output: Storage, run_id: str) -> Run | None:
    """The note of one run; None if it is not there."""
    key = f"runs/{run_id}/run.json"
    return _decode(output.read(key)) if output.exists(key) else None
