"""The labels of a table's images: from folders, from a carried column, or from a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from transforms.containers.members import SEPARATOR
from transforms.errors import UserError
from transforms.names import printable
from transforms.records import CARRIED

_COLUMN, _CSV = "column:", "csv:"
_SHOWN = 5
# The labels of one image; () for none.
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of N rows."""

    classes: tuple[str, ...]  # sorted
    # For each row the positions of its labels in ``classes``; () for a row without a label.
    of_rows: tuple[tuple[int, ...], ...]
    # Whether one label excludes the others. False: a row may have several.
    exclusive: bool

    @property
    def unlabelled(self) -> int:
        """How many rows have no label."""
        return sum(not labels for labels in self.of_rows)


def read_labels(spec: str, rows: pa.Table) -> Labels:
    """Find the label of each row.

    Args:
        spec: ``folder``, the name of the folder that an image lies in; ``column:NAME``, a carried
            column, whose value may be a list; or ``csv:FILE`` with the columns uri and label.
        rows: Of the features table, with ``uri``, and ``source`` if it carries columns.

    Raises:
        UserError: There is no such column or file, the file is broken, or there are fewer than two
            labels.
    """
    uris = rows["uri"].to_pylist()
    several = False
    if spec == "folder":
        names = [_folder(uri) for uri in uris]
    elif spec.startswith(_COLUMN):
        names, several = _from_column(spec.removeprefix(_COLUMN), rows)
    elif spec.startswith(_CSV):
        names = _from_csv(Path(spec.removeprefix(_CSV)), uris)
    else:
        raise UserError(f"--labels {spec}: must be folder, column:NAME or csv:FILE")
    classes = tuple(sorted({name for labels in names for name in labels}))
    if len(classes) < 2:
        seen = (
            f"all images have the label {printable(classes[0])}"
            if classes
            else "no image has a label"
        )
        raise UserError(f"--labels {spec}: {seen}; a classifier needs at least two labels")
    places = {name: place for place, name in enumerate(classes)}
    of_rows = tuple(tuple(sorted({places[name] for name in labels})) for labels in names)
    return Labels(classes, of_rows, not several)


def _folder(uri: str) -> Names:
    name = PurePosixPath(uri.rpartition(SEPARATOR)[2]).parent.name
    return (name,) if name else ()


def _from_column(name: str, rows: pa.Table) -> tuple[list[Names], bool]:
    """Return the labels of a carried column, and whether its values are lists."""
    kind = rows[CARRIED[0]].type if CARRIED[0] in rows.column_names else pa.null()
    carried = [field.name for field in kind] if pa.types.is_struct(kind) else []
    if name not in carried:
        there = f"there are {', '.join(map(printable, carried))}" if carried else "it has none"
        raise UserError(
            f"--labels column:{name}: the table carries no such column; {there}. 'extract --carry "
            f"{name}' keeps a column of a manifest"
        )
    values = pa.compute.struct_field(rows[CARRIED[0]], name)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return [tuple(map(str, filter(_given, value or ()))) for value in values.to_pylist()], True
    return [(str(value),) if _given(value) else () for value in values.to_pylist()], False


def _given(value: Any) -> bool:
    return value is not None and value != ""


def _from_csv(path: Path, uris: Sequence[str]) -> list[Names]:
    """Return the labels of a file; its uris may be paths that are relative to its folder."""
    known = set(uris)
    folders = (path.parent.absolute(), path.parent.resolve())
    labels: dict[str, str] = {}
    strange: list[str] = []
    for line, uri, label in _lines(path):
        # Names alone decide: there may be a million lines, and a name may be none of a file.
        meant = (uri, *(os.path.normpath(folder / uri) for folder in folders))
        whole = next((name for name in meant if name in known), uri)
        if labels.setdefault(whole, label) != label:
            raise UserError(
                f"--labels {_CSV}{path}: line {line} gives {printable(uri)} another label than a "
                "line before"
            )
        if whole not in known:
            strange.append(uri)
    if labels and len(strange) == len(labels):
        raise UserError(
            f"--labels {_CSV}{path}: none of its images is in the table, such as "
            f"{', '.join(map(printable, strange[:_SHOWN]))}; the table has {printable(uris[0])}"
        )
    return [(labels[uri],) if labels.get(uri) else () for uri in uris]


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, uri and label."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if sorted(header[:2]) != ["label", "uri"] or len(header) != 2:
                raise UserError(
                    f"--labels {_CSV}{path}: line 1 is {printable(','.join(header)[:80])!r}; it "
                    "must be uri,label"
                )
            for row in reader:
                if row and len(row) != 2:
                    raise UserError(
                        f"--labels {_CSV}{path}: line {reader.line_num} has {len(row)} values; "
                        "each line is uri,label"
                    )
                if row:
                    pair = dict(zip(header, row, strict=True))
                    yield reader.line_num, pair["uri"], pair["label"].strip()
    except OSError as error:
        raise UserError(f"--labels {_CSV}{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"--labels {_CSV}{path}: line {_no_text(path)} is no UTF-8 text; save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise UserError(f"--labels {_CSV}{path}: line {reader.line_num}: {error}") from error


def _no_text(path: Path) -> int:
    """Return the number of the first line that is no UTF-8; text is decoded in larger blocks."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0
