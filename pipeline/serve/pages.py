"""Turn rows into what the page shows of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from transforms.names import printable

# Rows on one page.
PAGE_ROWS = 60
_SHOWN = (
    *("uri", "label", "score"),
    # Of failures.
    *("kind", "stage", "message", "attempts"),
    # Of near-duplicates.
    *("group", "cosine", "hamming"),
)


def page_of(rows: pa.Table, number: int) -> dict[str, Any]:
    """Return one page of rows as JSON: the count of all rows, of pages, and the page's items.

    Args:
        rows: All rows.
        number: The page, from 0. One past the end is empty.
    """
    pages = -(-rows.num_rows // PAGE_ROWS)
    part = rows.slice(min(number, pages) * PAGE_ROWS, PAGE_ROWS)
    return {"total": rows.num_rows, "pages": pages, "items": shown(part)}


def shown(rows: pa.Table) -> list[dict[str, Any]]:
    """Return rows as JSON, with ``name`` for people beside the ``uri`` for requests.

    Characters that would change the order of what is shown are escaped in the name.
    """
    items: list[dict[str, Any]] = rows.select(
        [name for name in _SHOWN if name in rows.column_names]
    ).to_pylist()
    for item in items:
        item["name"] = printable(item["uri"])
        if item.get("message"):
            item["message"] = printable(item["message"])
    return items
