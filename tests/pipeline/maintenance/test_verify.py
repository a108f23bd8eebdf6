"""Verify reports a sound output as clean, and names each kind of damage."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.maintenance.compact import compact
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.verify import verify
from pipeline.tables.table import Table
from tests.helpers.damaged import commit_damaged, found, kinds, parts, set_all, three, with_vectors
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.export import model_id, model_id_of
from transforms.backbones.spec import NETWORK_FIELDS
from transforms.parts.write import read_recipe
from transforms.recipe import recipe_id
from transforms.records import features_schema


def test_a_sound_output_is_clean_also_after_compaction_and_rollback(output):
    first = verify(str(output), sample=4)
    assert str(first).splitlines() == [
        "sample: 4 vectors are the same, 0 are not; 0 images changed since, 0 vanished since",
        f"clean: version 1 of {output}/features, 7 rows in 4 parts; 1 failures",
    ]
    compact(str(output))
    assert (
        str(verify(str(output)))
        == f"clean: version 2 of {output}/features, 7 rows in 1 parts; 1 failures"
    )
    rollback(str(output), 0)
    assert (
        str(verify(str(output)))
        == f"clean: version 3 of {output}/features, 6 rows in 3 parts; 1 failures"
    )


def test_the_command_ends_with_one_and_a_line_a_problem(output, capsys):
    assert main(["verify", str(output)]) == 0
    # A part of the second night: the receipts of the last run miss its rows too.
    gone = parts(output)[-1]
    gone.unlink()
    capsys.readouterr()
    assert main(["verify", str(output)]) == 1
    out = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.out.splitlines()] == [
        "missing",
        "receipts",
        "2 problems",
    ]
    assert out.err == ""


def test_a_missing_part(output):
    gone = three(output)
    gone.unlink()
    [(kind, text)] = found(output)
    assert kind == "missing"
    assert text.startswith(f"missing: features/{gone.name}: the table's log names it, with 3 rows")


def test_a_flipped_bit_shows_in_the_digest(output):
    part = three(output)
    data = bytearray(part.read_bytes())
    data[data.rindex(b"beam-image") if b"beam-image" in data else len(data) // 2] ^= 1
    part.write_bytes(data)
    assert "digest" in kinds(output)


def test_a_part_that_was_cut_off(output):
    part = three(output)
    part.write_bytes(part.read_bytes()[:-100])
    assert kinds(output) == ["size", "digest", "unreadable"]


# Place of the vectors among the columns.
VECTORS = features_schema(1).get_field_index("embedding")


def broken(value):
    return with_vectors(lambda vectors: np.where(np.arange(1280) == 7, np.float32(value), vectors))


def nullable(name, values):
    """Change the values of a column, and allow nulls in its schema."""

    def apply(table):
        field = table.schema.field(name).with_nullable(True)
        column = pa.array(values(table[name].to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(name), field, column)

    return apply


def with_nulls(change):
    """Change the vectors, in a column that allows nulls everywhere."""

    def apply(table):
        column = pa.array(change(table["embedding"].to_pylist()), pa.list_(pa.float32(), 1280))
        return table.set_column(VECTORS, "embedding", column)

    return apply


def of_any_length(table):
    """Change the vectors to lists without a fixed size."""
    vectors = table["embedding"].cast(pa.list_(pa.float32()))
    return table.set_column(VECTORS, "embedding", vectors)


@pytest.mark.parametrize(
    ("expected", "change", "facts", "text"),
    [
        (["rows"], lambda table: table, {"rows": 5}, "3 rows, but the log says 5"),
        (["size"], lambda table: table, {"size": 5}, "bytes, but the log says 5"),
        (["non_finite"], broken(np.nan), {}, "3 vectors are not finite"),
        (["non_finite"], broken(np.inf), {}, "3 vectors are not finite"),
        (["null", "schema"], nullable("uri", lambda uris: [None, *uris[1:]]), {},
         "1 rows without uri"),
        # The words are from Arrow's message.
        (["unreadable"], with_nulls(lambda rows: [None, *rows[1:]]), {},
         "lists to be of size=1280"),
        (["null", "schema"], with_nulls(lambda rows: [[None, *row[1:]] for row in rows]), {},
         "3 values of vectors are null"),
        (["schema"], lambda table: table.drop_columns(["width"]), {},
         "the column width is missing"),
        (["schema"], lambda table: table.append_column("more", table["uri"]), {},
         "the column more is"),
        (["schema"], lambda table: table.select(table.column_names[::-1]), {}, "in another order"),
        (["schema"], of_any_length, {}, "not a list of fixed size"),
        (["recipe"] * 3, lambda table: table, {"recipe": {"resize": "crop"}},
         "its parts were made with 2 recipes"),
        (["recipe"], lambda table: set_all(table, "recipe", "0" * 64), {}, "its rows say 000"),
        (["recipe"], lambda table: table,
         {"minimum": {"uri": "", "recipe": "0" * 64, "run_id": ""}}, "the log says 000"),
        (["duplicate"], lambda table: pa.concat_tables([table, table]).sort_by("uri"), {},
         "3 images have more than one row"),
        (["order"], lambda table: table.sort_by([("uri", "descending")]), {}, "not sorted by uri"),
    ],
)  # fmt: skip
def test_damage_inside_a_part(output, expected, change, facts, text):
    commit_damaged(output, change, **facts)
    problems = found(output)
    assert [kind for kind, _ in problems] == expected
    assert any(text in line for _, line in problems)


def test_a_part_without_a_recipe(output, monkeypatch):
    recipe = read_recipe(three(output).read_bytes())
    monkeypatch.setattr("transforms.parts.write.RECIPE_KEY", b"other")
    commit_damaged(output, lambda table: table.replace_schema_metadata(None), recipe=recipe)
    [(kind, text)] = found(output)
    assert kind == "recipe"
    assert text.endswith("its Parquet metadata holds no recipe")


def test_vectors_of_two_lengths(output):
    def halved(table):
        kind = features_schema(640).field("embedding").type
        values = table["embedding"].combine_chunks().flatten()[: 640 * table.num_rows]
        return table.set_column(VECTORS, features_schema(640).field("embedding"),
                                pa.FixedSizeListArray.from_arrays(values, type=kind))  # fmt: skip

    commit_damaged(output, halved)
    assert found(output, sample=7) == [
        ("schema", "schema: features: vectors of different lengths: [640, 1280]")
    ]


def test_an_image_in_both_tables(output):
    uri = pq.read_table(three(output))["uri"][0].as_py()
    commit_damaged(output, lambda table: set_all(table, "uri", uri), table="errors")
    [(kind, text)] = found(output)
    assert kind == "overlap"
    assert uri in text


def receipts(output):
    return sorted(output.glob("runs/*/receipts/*.json"))


def test_receipts_that_say_otherwise(output):
    receipt = receipts(output)[-1]
    said = json.loads(receipt.read_text())
    receipt.write_text(json.dumps({**said, "references": 5}))
    [(kind, text)] = found(output)
    assert kind == "receipts"
    assert "shard-00000 has 5 images, and its receipt accounts for 1" in text
    receipt.write_text(json.dumps({**said, "part": {**said["part"], "rows": 2}, "references": 2}))
    [(kind, text)] = found(output)
    assert text.endswith("the features table has 1 rows of this run, and its receipts say 2")
    receipt.unlink()
    assert [text.split(": ")[2] for _, text in found(output)] == [
        "1 of 1 shards have no receipt (shard-00000 is the first)",
        "the features table has 1 rows of this run, and its receipts say 0",
    ]
    shutil.rmtree(receipt.parent.parent)
    assert found(output)[0][1].endswith("the note of the run that wrote this version is not there")


def test_failures_that_the_receipts_know_and_the_table_does_not(output):
    # Only the first night has a failure.
    rollback(str(output), 0)
    commit_damaged(output, lambda table: table.slice(0, 0), table="errors")
    [(kind, text)] = found(output)
    assert kind == "receipts"
    assert text.endswith("the errors table has 0 rows of this run, and its receipts say 1")


def test_a_run_between_its_two_commits(images, run, monkeypatch, tmp_path):
    """The errors table is one night newer: that is reported, and does not count as damage."""
    copies, output = shutil.copytree(images, tmp_path / "copies"), tmp_path / "out"
    run(copies, output, max_failure_rate=1)
    (copies / "coffee.jpg").write_bytes(b"")
    real = Table.commit

    def no_space(self, commit):
        if self.name == "features":
            raise OSError("No space left on device")
        return real(self, commit)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", no_space)
        with pytest.raises(OSError, match="No space"):
            run(copies, output, max_failure_rate=1)
    [(kind, text)] = found(output)
    assert kind == "unfinished"
    assert "interrupted between the commits of the two tables" in text
    run(copies, output, max_failure_rate=1)
    assert found(output) == []


def test_the_recipe_names_the_network(output):
    """Verify and vacuum find the network by the recipe alone."""
    resolved = resolve(BackboneConfig())
    assert set(resolved.recipe_fields) == set(NETWORK_FIELDS)
    recipe = read_recipe(three(output).read_bytes())
    assert [path.name for path in (output / "models").iterdir()] == [model_id_of(recipe)]
    assert model_id(resolved) == model_id_of(recipe)
    assert recipe_id(recipe) == pq.read_table(three(output))["recipe"][0].as_py()
