"""Select rows by label, uri and a condition in SQL, as the page's form gives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrieval.where import matching_uris
from pipeline.tables.table import Table

# How long a condition of the page may compute: others wait for the cores meanwhile.
WHERE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Filters:
    """What rows must meet; "" asks for nothing."""

    label: str = ""  # a part of the label, in any case
    uri: str = ""  # a part of the uri, in any case
    where: str = ""  # a condition in DuckDB's SQL over the features table
    seconds: float = WHERE_SECONDS  # that the condition may take

    @property
    def empty(self) -> bool:
        """Tell whether all rows meet them."""
        return not (self.label or self.uri or self.where)

    def select(self, rows: pa.Table, table: Table) -> pa.Table:
        """Return the rows that meet all filters.

        Args:
            rows: Rows with the columns uri and label.
            table: The features table, in the version that the rows are of.

        Raises:
            UserError: The condition is invalid, or takes too long.
            Damaged: A part cannot be read.
        """
        for column, text in (("label", self.label), ("uri", self.uri)):
            if text:
                rows = rows.filter(pc.match_substring(rows[column], text, ignore_case=True))
        if self.where:
            minute = int(monotonic() // 60)
            found = _matching(table, self.where, self.seconds, minute)
            rows = rows.filter(pc.is_in(rows["uri"], value_set=found))
        return rows


# A reader who turns pages asks for the same condition again. Its answer may change with the time,
# as that of "extracted_at > now() - INTERVAL 7 DAY" does, so it is kept for a minute.
@lru_cache(maxsize=4)
def _matching(table: Table, where: str, seconds: float, minute: int) -> pa.Array:
    return matching_uris(table, where, seconds)
