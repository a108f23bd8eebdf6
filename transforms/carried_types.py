"""The types of carried columns: found in their values, merged, and turned into Arrow's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from transforms.errors import UserError

# Types of carried values as JSON: a word, [element type], or {field: type}.
CarriedType = Any
_WORDS = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
}


def type_of(images: Iterable[tuple[str, str | None]]) -> CarriedType:
    """Return the common type of some carried values; {} if there are none.

    Args:
        images: The uri and the carried values of each image.

    Raises:
        UserError: Two images carry values of different types under one name.
    """
    found: CarriedType = {}
    for uri, source in images:
        if source is not None:
            try:
                found = merge(found, _type_of(json.loads(source)))
            except UserError as error:
                raise UserError(f"{error}. The other type begins with {uri}") from error
    return found


def _type_of(value: Any) -> CarriedType:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(1 << 63) <= value < 1 << 63 else "double"
    if isinstance(value, float):
        return "double"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        element: CarriedType = None
        for item in value:
            element = merge(element, _type_of(item))
        return [element]
    if isinstance(value, dict):
        _check_names(value)
        return {name: _type_of(item) for name, item in value.items()}
    return None


def _check_names(names: Iterable[str]) -> None:
    """Refuse what no Delta table can hold.

    Raises:
        UserError: Two names differ only in case, or a name holds the character NUL.
    """
    seen: dict[str, str] = {}
    for name in names:
        if "\0" in name:
            raise UserError(f"--carry: the column {name!r} has the character NUL in its name")
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UserError(
                f"--carry: the columns {other!r} and {name!r} differ only in case, which a Delta "
                "table cannot hold; rename one, or leave it out"
            )


def merge(one: CarriedType, two: CarriedType, name: str = "") -> CarriedType:
    """Return the type that holds the values of both.

    Args:
        one: A type; None for one that is not known yet.
        two: Another.
        name: Of the column, for the message.

    Raises:
        UserError: There is none.
    """
    if one == two or two is None:
        return one
    if one is None:
        return two
    if isinstance(one, dict) and isinstance(two, dict):
        names = {**one, **two}
        _check_names(names)
        return {key: merge(one.get(key), two.get(key), name or key) for key in names}
    if isinstance(one, list) and isinstance(two, list):
        return [merge(one[0], two[0], name)]
    if {str(one), str(two)} == {"int64", "double"}:
        return "double"
    raise UserError(
        f"--carry: the column {name!r} holds {describe(one)} for some images and {describe(two)} "
        "for others; give it one type, or leave it out"
    )


def extend(table: CarriedType, tonight: CarriedType) -> CarriedType:
    """Return the type of a table's column ``source`` after a run.

    Args:
        table: The type before.
        tonight: The type of what the run carries.

    Raises:
        UserError: A column of the table changed its type.
    """
    for name, kind in (tonight or {}).items():
        before = (table or {}).get(name)
        try:
            after = merge(before, kind, name)
        except UserError:
            after = None
        if before is not None and not _only_adds(before, after):
            raise UserError(
                f"--carry: the column {name!r} holds {describe(before)} in the table and "
                f"{describe(kind)} now; give it the type that it had, carry it under another name, "
                "or replace the table by --rebuild"
            )
    return merge(table, tonight)


def _only_adds(before: CarriedType, after: CarriedType) -> bool:
    """Tell whether a type only got more fields."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(_only_adds(kind, after.get(name)) for name, kind in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return before[0] is None or _only_adds(before[0], after[0])
    return bool(before == after)


def describe(kind: CarriedType) -> str:
    """Return a type as a word for a message."""
    if isinstance(kind, dict):
        return "a struct"
    return "a list" if isinstance(kind, list) else str(kind)


def to_arrow(kind: CarriedType) -> pa.DataType | None:
    """Return the Arrow type; None if no value with a type was seen."""
    if isinstance(kind, dict):
        fields = [(name, to_arrow(inner)) for name, inner in sorted(kind.items())]
        known = [(name, inner) for name, inner in fields if inner is not None]
        return pa.struct(known) if known else None
    if isinstance(kind, list):
        inner = to_arrow(kind[0])
        return None if inner is None else pa.list_(pa.field("element", inner))
    return _WORDS.get(kind) if kind else None


def from_arrow(kind: pa.DataType | None) -> CarriedType:
    """Return the type of a table's column ``source`` as ``CarriedType``."""
    if kind is None:
        return {}
    if pa.types.is_struct(kind):
        return {field.name: from_arrow(field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [from_arrow(kind.value_type)]
    return next((word for word, known in _WORDS.items() if kind == known), "string")


def to_array(sources: list[str | None], kind: pa.DataType) -> pa.Array:
    """Return carried values as the column ``source``."""
    convert = _converter(kind)
    return pa.array([convert(json.loads(s)) if s else None for s in sources], kind)


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    """Return a function that makes an int where a float is wanted a float, at any depth."""
    if pa.types.is_struct(kind):
        inner = {field.name: _converter(field.type) for field in kind}
        return lambda value: (
            None
            if value is None
            else {name: convert(value.get(name)) for name, convert in inner.items()}
        )
    if pa.types.is_list(kind):
        element = _converter(kind.value_type)
        return lambda value: None if value is None else [element(item) for item in value]
    if pa.types.is_floating(kind):
        return lambda value: None if value is None else float(value)
    return lambda value: value
