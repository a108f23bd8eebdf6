"""Rewrite a part without its stale rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from transforms.parts.write import Part, decode_part, read_part, write_part
from transforms.recipe import Recipe
from transforms.storage import Storage


def rewrite_part(
    storage: Storage, path: str, without: pa.Array, run_id: str, recipe: Recipe
) -> Part | None:
    """Write the rows of a part that are not stale as a new part.

    Values and types stay the same, vectors bit by bit: they are not computed again. Columns that
    did not exist when the part was written are added as nulls.

    Args:
        storage: The table's folder.
        path: The part, relative to the table.
        without: Uris of the rows to leave out.
        run_id: The run, for the new part's name.
        recipe: The recipe, for the new part's metadata.

    Returns:
        The new part, or None if no row is left.

    Raises:
        Damaged: If the part is missing, or its bytes differ from what was written. So damaged rows
            never get a valid digest.
    """
    table = decode_part(read_part(storage, path))
    kept = table.filter(pc.invert(pc.is_in(table["uri"], value_set=without)))
    if not kept.num_rows:
        return None
    return write_part(storage, kept, "", f"part-{run_id}-rewritten", recipe)
