"""Whether the groups of near-duplicates of a table are what was written."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.grouping.store import Store
from pipeline.tables import Table
from transforms.errors import Damaged, UserError
from transforms.parts.check import Problem
from transforms.storage import Storage

_ANEW = "'image-features duplicates OUTPUT' makes the groups anew"


def groups_problems(features: Table, output: Storage) -> Iterator[Problem]:
    """Yield what is wrong with the groups that belong to a features table.

    Args:
        features: The table whose images are grouped.
        output: Folder of the tables.

    Raises:
        StorageError: The storage does not answer, or the log of the groups cannot be read.
    """
    try:
        store = Store(output, features.pair)
        groups = store.read()
    except UserError as error:
        yield Problem("duplicates", "duplicates", str(error))
    except Damaged as error:
        cause = error.__cause__
        what = cause.what if isinstance(cause, Damaged) else str(cause)
        yield Problem("duplicates", store.table.name, f"{what}; {_ANEW}")
    else:
        for what in _wrong(groups):
            yield Problem("duplicates", store.table.name, f"{what}; {_ANEW}")


def _wrong(groups: pa.Table) -> Iterator[str]:
    """Describe what no groups of this program have."""
    uris = groups["uri"].combine_chunks()
    counts = pc.value_counts(uris)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        yield f"{len(twice):,} images are in several groups ({min(twice.to_pylist())} is the first)"
    heads = groups.filter(pc.equal(groups["uri"], groups["representative"]))
    known = pc.binary_join_element_wise(heads["group"], heads["uri"], "\n").combine_chunks()
    own = pc.binary_join_element_wise(groups["group"], groups["representative"], "\n")
    lost = pc.unique(groups["group"].filter(pc.invert(pc.is_in(own, value_set=known))))
    if len(lost):
        yield f"{len(lost):,} groups lack their representative ({lost[0]} is the first)"
