"""Recognise the files of an output that this program wrote, by the exact form of their names."""

from __future__ import annotations

import re

from pipeline.indexing.facts import FOLDER, is_index_file
from pipeline.state.run import RUN_ID
from pipeline.tables import groups_name, is_groups, is_table, pair_names
from pipeline.targets import TABLE_NAME
from transforms.storage import Storage

# The folders that this program writes to, besides tables. Vacuum ignores files elsewhere.
_OTHERS = ("runs", "models", "containers", FOLDER)
_PART = re.compile(
    rf"part-({RUN_ID})-(?:(?:shard-\d{{5,}}|merged|rewritten|relabelled)-)?[0-9a-f]{{12}}\.parquet"
)
_RUN_FILE = re.compile(
    rf"(?:{TABLE_NAME}/)?"
    r"(?:run\.json|drift\.json|report\.html|index\.parquet|(?:plan|receipts)/shard-\d{5,}\.(?:parquet|json)"
    r"|stale/(?:features|errors)\.parquet|listing/[^/]+\.(?:parquet|json))"
)
_MODEL_FILE = re.compile(
    r"graph\.pb|network(?:\.xml|\.bin|-\d+\.stablehlo)|golden\.npz|model\.json|SHA256SUMS"
)
_MODEL_ID = re.compile(r"[0-9a-f]{64}")
_INDEX = re.compile(r"containers/[0-9a-f]{32}\.parquet")
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]+")


def our_folders(output: Storage) -> list[str]:
    """Return the folders of an output that this program writes to: tables and all others."""
    names = {*output.folders(""), "features", "errors"}
    groups = names & {groups_name(pair) for pair in pair_names(output)}
    return [*sorted(name for name in names if is_table(name)), *sorted(groups), *_OTHERS]


def run_of_part(name: str) -> str | None:
    """Return the id of the run or compaction that wrote a part.

    Args:
        name: File name, without a folder.

    Returns:
        The id, or None when the name is not that of a part.
    """
    found = _PART.fullmatch(name)
    return found[1] if found else None


def is_ours(key: str) -> bool:
    """Tell whether this program writes files with such a key; all of Delta's log counts.

    Args:
        key: Key of a file in the output.
    """
    folder, _, name = key.partition("/")
    if is_table(folder) or is_groups(folder):
        return name.startswith("_delta_log/") or run_of_part(name) is not None
    place, _, file = name.partition("/")
    if folder == "runs":
        return bool(re.fullmatch(RUN_ID, place) and _RUN_FILE.fullmatch(file))
    if folder == FOLDER:
        return is_index_file(key)
    if folder == "containers":
        return bool(_INDEX.fullmatch(key))
    return folder == "models" and bool(_MODEL_ID.fullmatch(place) and _MODEL_FILE.fullmatch(file))


def is_temporary(name: str) -> bool:
    """Tell whether a file name is that of a temporary file, which only a killed process leaves."""
    return bool(_TEMPORARY.fullmatch(name))
