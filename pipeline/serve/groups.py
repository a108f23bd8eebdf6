"""The groups of near-duplicates, as the page shows them."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from pipeline.grouping.store import Store
from pipeline.reports.text import counted
from pipeline.serve.filters import Filters
from pipeline.serve.library import View
from pipeline.serve.pages import page_of
from transforms.storage import Storage

_NONE = "no groups: 'image-features duplicates OUTPUT' finds near-duplicates"


def groups_page(output: Storage, view: View, filters: Filters, number: int) -> dict[str, Any]:
    """Return one page of the images in groups, group after group, the representative first.

    Args:
        output: Folder of the tables.
        view: The version that is shown. Images that are no rows of it any more are left out.
        filters: What an image must meet.
        number: The page, from 0.

    Raises:
        Damaged: A file of the table cannot be read.
        StorageError: The output cannot be read.
        UserError: A condition is invalid.
    """
    store = Store(output, view.table.pair)
    done = store.done()
    if done is None:
        return {"total": 0, "pages": 0, "items": [], "said": _NONE}
    allowed = filters.select(view.rows, view.table)
    found = store.read()
    found = found.filter(pc.is_in(found["uri"], value_set=allowed["uri"].combine_chunks()))
    head = pc.equal(found["uri"], found["representative"])
    order = [("representative", "ascending"), ("head", "descending"), ("uri", "ascending")]
    found = found.append_column("head", pc.cast(head, "int8")).sort_by(order)
    places = pc.index_in(found["uri"], value_set=allowed["uri"].combine_chunks())
    found = found.append_column("label", allowed["label"].take(places))
    groups = counted(len(pc.unique(found["group"])), "group")
    said = f"{found.num_rows:,} images in {groups} of near-duplicates"
    if not done.stands_for(view.table):
        said += f"; they stand for version {done.version}, 'image-features duplicates' updates them"
    return {**page_of(found, number), "said": said}
