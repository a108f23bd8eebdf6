"""Verify: a sound output is clean, and each kind of damage to a real one is reported as what it is."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.maintenance import compact, rollback
from pipeline.tables import Commit, Table
from pipeline.verify import verify
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.spec import NETWORK_FIELDS
from transforms.recipe import recipe_id
from transforms.recompute import tolerance
from transforms.records import features_schema
from transforms.storage import open_storage
from transforms.write import Part, digest, encode_parquet, read_recipe


def parts(output, table="features"):
    return sorted((output / table).glob("part-*.parquet"))


def three(output, table="features"):
    """The part with three rows, of the first night; of the errors table the only one."""
    return parts(output, table)[2 if table == "features" else 0]


def found(output, sample=0):
    """Kind and text of each problem."""
    return [(problem.kind, str(problem)) for problem in verify(str(output), sample).problems]


def kinds(output, sample=0):
    return [kind for kind, _ in found(output, sample)]


def commit_damaged(output, change, table="features", **facts):
    """Put a changed copy in the place of the first part, as a commit that only moves rows."""
    target = Table(str(output), table)
    old = three(output, table)
    recipe = facts.pop("recipe", None) or read_recipe(old.read_bytes())
    rows = change(pq.read_table(old))
    encoded = encode_parquet(rows, recipe)
    path = f"part-damaged-{digest(encoded)}.parquet"
    open_storage(target.url).write(path, encoded)
    known = next(part for part in target.parts if part["path"] == old.name)
    least, most = ({name: known[f"{end}.{name}"] for name in ("uri", "recipe", "run_id")} for end in ("min", "max"))
    part = replace(Part(path, len(encoded), rows.num_rows, least, most), **facts)
    target.commit(Commit("damage", features_schema(1), [part], [old.name], operation="compact"))
    old.unlink()


def with_vectors(change):
    """A change of the vectors, float32 [N, 1280]."""

    def apply(table):
        kind = table.schema.field("embedding").type
        values = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 1280).copy()
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(change(values).reshape(-1)), type=kind)
        return table.set_column(table.num_columns - 1, table.schema.field("embedding"), vectors)

    return apply


def test_a_sound_output_is_clean_also_after_compaction_and_rollback(output):
    first = verify(str(output), sample=4)
    assert str(first).splitlines() == [
        "sample: 4 vectors are the same, 0 are not; 0 images changed since, 0 vanished since",
        f"clean: version 1 of {output}/features, 7 rows in 4 parts; 1 failures",
    ]
    compact(str(output))
    assert str(verify(str(output))) == f"clean: version 2 of {output}/features, 7 rows in 1 parts; 1 failures"
    rollback(str(output), 0)
    assert str(verify(str(output))) == f"clean: version 3 of {output}/features, 6 rows in 3 parts; 1 failures"


def test_the_command_ends_with_one_and_a_line_a_problem(output, capsys):
    assert main(["verify", str(output)]) == 0
    gone = parts(output)[-1]
    gone.unlink()  # of the second night: the receipts of the last run miss its rows too
    capsys.readouterr()
    assert main(["verify", str(output)]) == 1
    out = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.out.splitlines()] == ["missing", "receipts", "2 problems"]
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


def broken(value):
    return with_vectors(lambda vectors: np.where(np.arange(1280) == 7, np.float32(value), vectors))


def nullable(name, values):
    """The column with other values, and with a schema that allows nulls."""

    def apply(table):
        field = table.schema.field(name).with_nullable(True)
        column = pa.array(values(table[name].to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(name), field, column)

    return apply


def with_nulls(change):
    """Other vectors, in a column that allows nulls everywhere."""

    def apply(table):
        column = pa.array(change(table["embedding"].to_pylist()), pa.list_(pa.float32(), 1280))
        return table.set_column(14, "embedding", column)

    return apply


@pytest.mark.parametrize(
    ("expected", "change", "facts", "text"),
    [
        (["rows"], lambda table: table, {"rows": 5}, "3 rows, and the log says 5"),
        (["size"], lambda table: table, {"size": 5}, "bytes, and the log says 5"),
        (["non_finite"], broken(np.nan), {}, "3 vectors are not finite"),
        (["non_finite"], broken(np.inf), {}, "3 vectors are not finite"),
        (["null", "schema"], nullable("uri", lambda uris: [None, *uris[1:]]), {}, "1 rows without uri"),
        (["unreadable"], with_nulls(lambda rows: [None, *rows[1:]]), {}, "lists to be of size=1280"),  # so Arrow
        (["null", "schema"], with_nulls(lambda rows: [[None, *row[1:]] for row in rows]), {},
         "3 numbers of vectors are null"),
        (["schema"], lambda table: table.drop_columns(["width"]), {}, "the column width is missing"),
        (["schema"], lambda table: table.append_column("more", table["uri"]), {}, "the column more is"),
        (["schema"], lambda table: table.select(table.column_names[::-1]), {}, "in another order"),
        (["schema"], lambda t: t.set_column(14, "embedding", t["embedding"].cast(pa.list_(pa.float32()))), {},
         "not a list of fixed size"),
        (["recipe"] * 3, lambda table: table, {"recipe": {"resize": "crop"}}, "its parts were made with 2 recipes"),
        (["recipe"], lambda table: set_all(table, "recipe", "0" * 64), {}, "its rows say 000"),
        (["recipe"], lambda table: table, {"minimum": {"uri": "", "recipe": "0" * 64, "run_id": ""}},
         "the log says 000"),
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
    monkeypatch.setattr("transforms.write.RECIPE_KEY", b"other")
    commit_damaged(output, lambda table: table.replace_schema_metadata(None), recipe=recipe)
    [(kind, text)] = found(output)
    assert kind == "recipe"
    assert text.endswith("its Parquet metadata holds no recipe")


def test_vectors_of_two_lengths(output):
    def halved(table):
        kind = features_schema(640).field("embedding").type
        values = table["embedding"].combine_chunks().flatten()[: 640 * table.num_rows]
        return table.set_column(14, features_schema(640).field("embedding"),
                                pa.FixedSizeListArray.from_arrays(values, type=kind))  # fmt: skip

    commit_damaged(output, halved)
    assert found(output, sample=7) == [("schema", "schema: features: vectors of different lengths: [640, 1280]")]


def test_an_image_in_both_tables(output):
    uri = pq.read_table(three(output))["uri"][0].as_py()
    commit_damaged(output, lambda table: set_all(table, "uri", uri), table="errors")
    [(kind, text)] = found(output)
    assert kind == "overlap"
    assert uri in text


def set_all(table, name, value):
    field = table.schema.field(name)
    column = pa.array([value] * table.num_rows, field.type)
    return table.set_column(table.schema.get_field_index(name), field, column)


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
    rollback(str(output), 0)  # the first night is the one with a failure
    commit_damaged(output, lambda table: table.slice(0, 0), table="errors")
    [(kind, text)] = found(output)
    assert kind == "receipts"
    assert text.endswith("the errors table has 0 rows of this run, and its receipts say 1")


def test_a_run_between_its_two_commits(images, run, monkeypatch, tmp_path):
    """The errors table is a night ahead: that is said, and not taken for damage."""
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
    assert "broken off between the commits of the two tables" in text
    run(copies, output, max_failure_rate=1)
    assert found(output) == []


def test_another_vector_of_the_sample(output):
    commit_damaged(output, with_vectors(lambda vectors: vectors[::-1]))
    assert kinds(output) == []
    problems = found(output, sample=7)
    assert {kind for kind, _ in problems} == {"vector"}
    assert len(problems) == 2  # of three that were reversed the middle one stayed
    assert "of its length; 0.0045 is allowed" in problems[0][1]
    assert str(verify(str(output), 7)).splitlines()[2].startswith("sample: 5 vectors are the same, 2 are not")


def test_changed_and_vanished_images_are_no_problems(images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    output = tmp_path / "out"
    run(copies, output, max_failure_rate=1)
    (copies / "coffee.jpg").unlink()
    (copies / "camera.jpg").write_bytes((copies / "rocket.jpg").read_bytes())
    verification = verify(str(output), sample=100)
    assert verification.clean
    counts = (verification.sample.same, verification.sample.changed, verification.sample.vanished)
    assert counts == (5, 1, 1)


def test_other_bytes_behind_the_same_etag(images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    output = tmp_path / "out"
    run(copies, output, max_failure_rate=1)
    photo = copies / "coffee.jpg"
    status = photo.stat()
    data = photo.read_bytes()
    photo.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    [(kind, text)] = found(output, sample=100)
    assert (kind, str(photo) in text) == ("content", True)


def test_an_image_that_cannot_be_read_is_a_problem_of_the_sample(images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    run(copies, tmp_path / "out", max_failure_rate=1)
    (copies / "coffee.jpg").unlink()
    (copies / "coffee.jpg").mkdir()
    [(kind, text)] = found(tmp_path / "out", sample=100)
    assert kind == "vector"
    assert "cannot be computed again: unsupported: not a file" in text


def test_the_network_is_gone(output):
    shutil.rmtree(output / "models")
    assert kinds(output) == []
    [(kind, text)] = found(output, sample=1)
    assert kind == "model"
    assert text.endswith("the network that made the vectors is not there")


def test_the_sample_is_drawn_again_alike_and_from_all_parts(output):
    from pipeline.verify import _picks

    rows = [3, 0, 5, 2]
    assert all((a == b).all() for a, b in zip(_picks(rows, 4, 1), _picks(rows, 4, 1), strict=True))
    assert sum(len(pick) for pick in _picks(rows, 4, 1)) == 4
    assert [pick.tolist() for pick in _picks(rows, 100, 1)] == [[0, 1, 2], [], [0, 1, 2, 3, 4], [0, 1]]
    drawn = [tuple(map(tuple, _picks(rows, 2, version))) for version in range(20)]
    assert len(set(drawn)) > 5


def test_a_sample_of_another_recipe(images, run, tmp_path):
    run(images, tmp_path / "out", max_failure_rate=1, precision="bfloat16", resize="crop")
    verification = verify(str(tmp_path / "out"), sample=7)
    assert verification.clean, str(verification)
    assert verification.sample.same == 7


def test_tolerance_is_that_of_the_self_check():
    assert tolerance("float32") == pytest.approx(0.00447, abs=1e-5)
    assert tolerance("bfloat16") == pytest.approx(0.2)


def test_the_recipe_names_the_network(output):
    """Verify and vacuum find the network by the recipe alone."""
    resolved = resolve(BackboneConfig())
    assert set(resolved.recipe_fields) == set(NETWORK_FIELDS)
    recipe = read_recipe(three(output).read_bytes())
    from transforms.backbones.export import model_id, model_id_of

    assert [path.name for path in (output / "models").iterdir()] == [model_id_of(recipe)]
    assert model_id(resolved) == model_id_of(recipe)
    assert recipe_id(recipe) == pq.read_table(three(output))["recipe"][0].as_py()
