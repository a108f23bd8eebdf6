"""Damage a real output, and return what verify finds in it."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.maintenance.verify import verify
from pipeline.tables import Tables
from pipeline.tables.commit import Commit
from transforms.parts.write import Part, digest, encode_part, read_recipe
from transforms.storage import open_storage


def parts(output, table="features"):
    return sorted((output / table).glob("part-*.parquet"))


def three(output, table="features"):
    """Return the part with three rows, of the first night; the only part of the errors table."""
    return parts(output, table)[2 if table == "features" else 0]


def found(output, sample=0):
    """Return kind and text of each problem."""
    return [(problem.kind, str(problem)) for problem in verify(str(output), sample).problems]


def kinds(output, sample=0):
    return [kind for kind, _ in found(output, sample)]


def commit_damaged(output, change, table="features", **facts):
    """Replace the first part by a changed copy, with a commit that only moves rows."""
    target = getattr(Tables.open(open_storage(str(output))), table)
    old = three(output, table)
    recipe = facts.pop("recipe", None) or read_recipe(old.read_bytes())
    rows = change(pq.read_table(old))
    encoded = encode_part(rows, recipe)
    path = f"part-damaged-{digest(encoded)}.parquet"
    target.storage.write(path, encoded)
    known = next(part for part in target.parts if part["path"] == old.name)
    least, most = (
        {name: known[f"{end}.{name}"] for name in ("uri", "recipe", "run_id")}
        for end in ("min", "max")
    )
    part = replace(Part(path, len(encoded), rows.num_rows, least, most), **facts)
    target.commit(Commit("damage", [part], [old.name], operation="compact"))
    old.unlink()


def with_vectors(change):
    """Return a change of a part's vectors, float32 [N, 1280]."""

    def apply(table):
        kind = table.schema.field("embedding").type
        values = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 1280).copy()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(change(values).reshape(-1)), type=kind)
        return table.set_column(table.num_columns - 1, table.schema.field("embedding"), vectors)

    return apply


def set_all(table, name, value):
    field = table.schema.field(name)
    column = pa.array([value] * table.num_rows, field.type)
    return table.set_column(table.schema.get_field_index(name), field, column)
