"""Count the rows of a night by the inputs that they came from."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from transforms.sources import meaning_of

_WILD = re.compile(r"[*?\[{]")
_LISTS = ("list:", "manifest:")


def rows_by_source(inputs: Sequence[str], uris: pa.ChunkedArray) -> Sequence[tuple[str, int]]:
    """Return how many names begin as each input does, and last the rest.

    The rest is named by lists and manifests, of which a row does not say the one. A name below two
    inputs counts for both.

    Args:
        inputs: Of the run; one of them needs no table.
        uris: Of the rows, strings [n].

    Returns:
        The start of the names and the number of rows; nothing for a single input.
    """
    if len(inputs) < 2:
        return []
    found = []
    rest = uris
    for start in dict.fromkeys(_start(text) for text in inputs if not text.startswith(_LISTS)):
        found.append((start, pc.sum(_below(start, uris)).as_py() or 0))
        rest = rest.filter(pc.invert(_below(start, rest)))
    return [*found, ("lists and manifests", len(rest))] if len(rest) else found


def _start(text: str) -> str:
    """Return the fixed start of the names that an input stands for; ``…*`` for a part of a name."""
    meaning = meaning_of(text)
    wild = _WILD.search(meaning)
    return f"{meaning[: wild.start()]}*" if wild else meaning


def _below(start: str, uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """Tell of each name whether it begins so, bool [n]."""
    if start.endswith("*"):
        return pc.starts_with(uris, start[:-1])
    inside = pc.or_(pc.starts_with(uris, f"{start}/"), pc.starts_with(uris, f"{start}::"))
    return pc.or_(inside, pc.equal(uris, start))
