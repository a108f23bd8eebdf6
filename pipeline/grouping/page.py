"""Write groups of near-duplicates as one page, with its pictures inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import pyarrow as pa

from pipeline.reports.html import text_of
from pipeline.retrieval.page import Picture, figure, page_of

# Images that a page shows: each thumbnail takes some 15 KB.
MAX_SHOWN = 2_000


def groups_page(groups: pa.Table, total: int, pictures: Iterable[Picture]) -> str:
    """Return groups as HTML, the representative of each first.

    Args:
        groups: The rows to show, sorted by group.
        total: The number of rows of all groups.
        pictures: For each row a JPEG, or why there is none.
    """
    shown = f"first {groups.num_rows:,} of {total:,}" if groups.num_rows < total else f"{total:,}"
    return page_of(f"Near-duplicates: {shown} images", _items(groups, pictures))


def _items(groups: pa.Table, pictures: Iterable[Picture]) -> Iterator[str]:
    rows = zip(groups.to_pylist(), pictures, strict=True)
    for name, members in groupby(rows, key=lambda pair: pair[0]["group"]):
        yield f"<h2>{text_of(name)}</h2>\n<ol>\n"
        for row, picture in members:
            first = row["uri"] == row["representative"]
            how = "representative" if first else (
                f"cosine {row['cosine']:.4f}, {row['hamming']} bits differ"
            )  # fmt: skip
            yield figure(picture, row["uri"], f"<b>{how}</b><br>{text_of(row['uri'])}")
        yield "</ol>\n"
