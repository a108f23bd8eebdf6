"""What an index says of itself: ``OUTPUT/index/TABLE/vVERSION.json``.

It is written last and in one step, so an index is whole or is not there. It names its other files
by their content, and an index that was updated shares its large file with the one before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.tables import is_table
from pipeline.tables.snapshot import Snapshot
from transforms.storage import NotFound, Storage

FOLDER = "index"
FORMAT = 1
_NAME = re.compile(r"v(\d{1,12})\.json")
_FILE = re.compile(r"(?:vectors|rows|held)-[0-9a-f]{16}\.(?:faiss|parquet|npz)")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of an index."""

    name: str
    size: int  # bytes
    sha256: str  # of the whole file
    # Of its first HEAD_BYTES, which are checked each time; the whole file takes 1 s a gigabyte.
    head_sha256: str


# Stands for a file that is not written yet.
NO_FILE = FileFacts("", 0, "", "")


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What an index stands for, and where its files are."""

    table: str  # name of the features table
    table_id: str  # Delta's
    recipe: str  # the recipe's id
    version: int  # of the table
    rows: int
    dimension: int
    bytes_per_number: int  # 2: float16; 1: 8 bits, and hits are compared again exactly
    lists: int  # cells of the coarse quantizer
    probes: int  # cells that a search looks into by default
    trained_on: int  # rows of the table when the cells were chosen
    next_id: int  # ids below have been given to rows
    recall: float  # at 10, of the held queries
    # The large file and, after updates, a small one with the rows added since.
    vectors: tuple[FileFacts, ...]
    row_names: FileFacts
    held: FileFacts

    @property
    def key(self) -> str:
        """The key of these facts in the output."""
        return f"{FOLDER}/{self.table}/v{self.version}.json"

    @property
    def files(self) -> tuple[FileFacts, ...]:
        """All other files of the index."""
        return (*self.vectors, self.row_names, self.held)

    def file_key(self, file: FileFacts) -> str:
        """Return the key of a file in the output."""
        return f"{FOLDER}/{self.table}/{file.name}"


def encode_facts(facts: IndexFacts) -> bytes:
    """Encode the facts as JSON."""
    return json.dumps({"format": FORMAT, **asdict(facts)}, indent=1).encode()


def decode_facts(data: bytes) -> IndexFacts:
    """Decode the facts.

    Raises:
        ValueError: They are damaged, or were written by another version of this program.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        fields["vectors"] = tuple(FileFacts(**file) for file in fields["vectors"])
        for name in ("row_names", "held"):
            fields[name] = FileFacts(**fields[name])
        facts = IndexFacts(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these are no facts of an index ({error})") from error
    if not all(_FILE.fullmatch(file.name) for file in facts.files):
        raise ValueError("a file of the index has a name that this program does not give")
    return facts


def versions_of_indexes(output: Storage, table: str) -> list[int]:
    """Return the table versions that indexes stand for, newest first."""
    folder = f"{FOLDER}/{table}"
    names = (entry.key.removeprefix(f"{folder}/") for entry in output.list(folder))
    return sorted(
        (int(found[1]) for name in names if (found := _NAME.fullmatch(name))), reverse=True
    )


def read_all_facts(output: Storage, table: str) -> Iterator[IndexFacts | str]:
    """Yield the facts of each index of a table, newest first, or why they cannot be read.

    Args:
        output: Folder of the tables.
        table: Name of the features table.
    """
    for version in versions_of_indexes(output, table):
        key = f"{FOLDER}/{table}/v{version}.json"
        try:
            facts = decode_facts(output.read(key))
        except ValueError as error:
            yield f"{output.url}/{key} is damaged: {error}"
        except NotFound:
            # Vacuum has deleted it since.
            continue
        else:
            yield facts


def fits(facts: IndexFacts, table: Snapshot) -> bool:
    """Tell whether an index holds vectors of a table, made by the recipe of its rows."""
    own = (table.name, table.table_id, table.recipe_id)
    return (facts.table, facts.table_id, facts.recipe) == own


def is_facts(key: str) -> bool:
    """Tell whether a key is that of the facts of an index."""
    return is_index_file(key) and key.endswith(".json")


def is_index_file(key: str) -> bool:
    """Tell whether this program gives such keys to the files of an index."""
    folder, table, name = ([*key.split("/", 2), "", ""])[:3]
    known = bool(_NAME.fullmatch(name) or _FILE.fullmatch(name))
    return folder == FOLDER and is_table(table) and known
