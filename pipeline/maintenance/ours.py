"""Which files of an output this program wrote, told by the exact forms of their names."""

from __future__ import annotations

import re

from pipeline.state.run import RUN_ID

FOLDERS = (
    "features",
    "errors",
    "runs",
    "models",
    # Where it writes; what lies elsewhere is nobody's business
)
_PART = re.compile(
    rf"part-({RUN_ID})-(?:(?:shard-\d{{5,}}|merged|rewritten)-)?[0-9a-f]{{12}}\.parquet"
)
_RUN_FILE = re.compile(
    r"run\.json|index\.parquet|(?:plan|receipts)/shard-\d{5,}\.(?:parquet|json)"
    r"|stale/(?:features|errors)\.parquet|listing/[^/]+\.(?:parquet|json)"
)
_MODEL_FILE = re.compile(r"graph\.pb|golden\.npz|model\.json|SHA256SUMS")
_MODEL_ID = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]+")


def run_of_part(name: str) -> str | None:
    """The id of the run, or compaction, that wrote a part of this name; None for a file that is no part of ours."""
    found = _PART.fullmatch(name)
    return found[1] if found else None


def is_ours(key: str) -> bool:
    """Whether a key of the output has a form that this program writes; Delta's log counts as such."""
    folder, _, name = key.partition("/")
    if folder in ("features", "errors"):
        return name.startswith("_delta_log/") or run_of_part(name) is not None
    place, _, file = name.partition("/")
    if folder == "runs":
        return bool(re.fullmatch(RUN_ID, place) and _RUN_FILE.fullmatch(file))
    return folder == "models" and bool(_MODEL_ID.fullmatch(place) and _MODEL_FILE.fullmatch(file))


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that only a killed process leaves."""
    return bool(_TEMPORARY.fullmatch(name))
