"""Write a part again under another recipe, with other labels and the same vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.parts.write import Part, decode_part, read_part, write_part
from transforms.recipe import Recipe, recipe_id
from transforms.storage import Storage

Vectors = npt.NDArray[np.float32]
# Vectors [N, D] → the columns of labels [N].
LabelsOf = Callable[[Vectors], Mapping[str, pa.Array]]


def relabel_part(
    storage: Storage, path: str, labels_of: LabelsOf, run_id: str, recipe: Recipe
) -> Part:
    """Write the rows of a part as a new part; values of all other columns stay, bit by bit.

    Args:
        storage: The table's folder. Rows of an errors table, which have no labels, get the recipe
            alone.
        path: The part, relative to the table.
        labels_of: Gives the labels of vectors.
        run_id: For the new part's name.
        recipe: The recipe of the new labels.

    Raises:
        Damaged: The part is missing, or its bytes differ from what was written.
    """
    rows = decode_part(read_part(storage, path))
    new: dict[str, pa.Array] = {"recipe": pa.repeat(recipe_id(recipe), rows.num_rows)}
    if "embedding" in rows.column_names:
        column = rows["embedding"].combine_chunks()
        vectors = column.flatten().to_numpy().reshape(rows.num_rows, -1)
        new |= labels_of(vectors)
    for name, values in new.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), values)
    return write_part(storage, rows, "", f"part-{run_id}-relabelled", recipe)
