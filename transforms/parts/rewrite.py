"""Rewrite: a part that holds stale rows → the same part without them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from transforms import parquet
from transforms.parts.write import Part, read_part, write_part
from transforms.recipe import Recipe
from transforms.storage import Storage


def rewrite_part(
    storage: Storage, path: str, without: pa.Array, run_id: str, recipe: Recipe
) -> Part | None:
    """Write the part at ``path`` anew without the rows of the uris in ``without``; None if none is left.

    Rows, types and vectors of the others stay as they are, bit by bit: the vectors are not computed
    again. Raises ``Damaged`` for a part that is not what was written: its rows get no fresh digest.
    """
    table = parquet.read(read_part(storage, path))
    kept = table.filter(pc.invert(pc.is_in(table["uri"], value_set=without)))
    if not kept.num_rows:
        return None
    return write_part(storage, kept, "", f"part-{run_id}-rewritten", recipe)
