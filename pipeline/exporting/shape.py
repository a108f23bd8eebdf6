"""Turn what a user asks for into the shape of the rows at a destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.exporting.base import NAMES, Shape
from pipeline.exporting.targets import IdKind
from pipeline.tables.snapshot import Snapshot
from transforms.errors import UserError
from transforms.parts.write import read_part

_VECTOR = "embedding"


def shape_of(
    table: Snapshot, columns: Sequence[str], kind: IdKind, options: Mapping[str, str]
) -> Shape:
    """Return the shape of exported rows.

    Args:
        table: The features table.
        columns: ``NAME`` or ``NAME=NEW_NAME``; ``all`` stands for all columns. The columns uri,
            run_id and embedding are always among them.
        kind: The form of the ids.
        options: Of the target.

    Raises:
        UserError: The table has no such column, or two columns would have one name.
        Damaged: The first part of the table cannot be read.
    """
    # An image's uri has no null, but Delta's schema says nothing of it.
    known = {field.name: field.type for field in table.columns}
    chosen: dict[str, str] = {name: name for name in (*NAMES, _VECTOR)}
    named: dict[str, str] = {}
    for text in columns:
        name, _, new = text.partition("=")
        if name == "all" and not new:
            chosen = {name: chosen.get(name, name) for name in (*chosen, *known)}
            continue
        if name not in known:
            raise UserError(f"--columns {text}: the table has no column {name!r}; it has: "
                            f"{', '.join(known)}")  # fmt: skip
        if named.setdefault(name, new or name) != (new or name):
            raise UserError(
                f"--columns gives {name!r} two names, {named[name]!r} and {new or name!r}; a "
                "column goes along once: give one of them"
            )
        chosen[name] = new or name
    vector = chosen.pop(_VECTOR)
    names = [*chosen.values(), vector, *(["id"] if kind != "uri" else [])]
    _check_different(names)
    types = pa.schema([pa.field(name, plain_type(known[name])) for name in chosen])
    return Shape(kind, chosen, types, vector, dimension_of(table), dict(options))


def _check_different(names: Sequence[str]) -> None:
    """Check that no two columns have one name, also for readers that take A for a.

    Raises:
        UserError: Two have.
    """
    known: dict[str, str] = {}
    for name in names:
        first = known.get(name.casefold())
        if first is not None:
            also = "" if first == name else f", {first!r} in other letters"
            raise UserError(
                f"two exported columns have the name {name!r}{also}; rename one with --columns "
                "NAME=NEW"
            )
        known[name.casefold()] = name


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type with Arrow's plain strings and lists, whichever form Delta's reader prefers."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", plain_type(kind.value_type)))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def dimension_of(table: Snapshot) -> int:
    """Return the length of a table's vectors; 0 for a table without rows."""
    parts = table.parts
    if not parts:
        return 0
    file = pq.ParquetFile(pa.BufferReader(read_part(table.storage, parts[0]["path"])))
    return int(file.schema_arrow.field(_VECTOR).type.list_size)
