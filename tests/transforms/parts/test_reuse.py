"""Equal bytes share one vector, of the table or of the shard, and each image counts once."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import transforms.extract
import transforms.parts.reuse
import transforms.work
from tests.helpers.runs import make_folder, read_errors, read_features, vectors
from transforms import parquet
from transforms.parts.reuse import Reuse, encode_index
from transforms.parts.write import digest, encode_part
from transforms.records import features_schema
from transforms.storage import open_storage


@pytest.fixture
def computed(monkeypatch):
    """Return the number of images that went through the network."""
    counts = [0]
    real = transforms.work.embed

    def count(engine, pixels):
        counts[0] += len(pixels)
        return real(engine, pixels)

    monkeypatch.setattr(transforms.work, "embed", count)
    return lambda: counts[0]


def rows(output):
    return {Path(row["uri"]).name: row for row in read_features(output).to_pylist()}


_OWN = ("uri", "etag", "size", "modified", "run_id", "extracted_at")


def shared(row):
    return {name: value for name, value in row.items() if name not in _OWN}


def test_the_same_bytes_under_another_name_take_the_vector_from_the_table(
    folder, run, tmp_path, photos, computed
):
    run(folder)
    (folder / "zz-cat.jpg").write_bytes((folder / "chelsea.jpg").read_bytes())
    make_folder(folder / "more", photos, "cell")
    summary = run(folder)
    assert str(summary).endswith("removed 0; embedded 1, reused 1, failed 0")
    assert computed() == 7
    after = rows(tmp_path / "out")
    copy, cat, cell = after["zz-cat.jpg"], after["chelsea.jpg"], after["cell.jpg"]
    assert shared(copy) == shared(cat)
    assert len(copy["embedding"]) == 1280
    assert (copy["run_id"], copy["extracted_at"]) == (cell["run_id"], cell["extracted_at"])
    assert copy["etag"] != cat["etag"]
    assert read_features(tmp_path / "out").schema.remove_metadata().equals(features_schema(1280))
    assert not run(folder).published


def test_a_renamed_folder_costs_no_vector(folder, run, tmp_path, computed):
    run(folder, shard_size=2)
    before = read_features(tmp_path / "out")
    folder.rename(tmp_path / "moved")
    summary = run(tmp_path / "moved", shard_size=3, max_removed_rate=1)
    assert (summary.new, summary.removed, summary.embedded, summary.reused) == (6, 6, 0, 6)
    assert computed() == 6
    after = read_features(tmp_path / "out")
    assert [Path(uri).parent.name for uri in after["uri"].to_pylist()] == ["moved"] * 6
    assert (vectors(after) == vectors(before)).all()


def test_a_file_that_was_only_touched_is_changed_and_reused(folder, run, tmp_path, computed):
    run(folder)
    (folder / "chelsea.jpg").touch()
    summary = run(folder)
    assert (summary.changed, summary.embedded, summary.reused) == (1, 0, 1)
    stat = (folder / "chelsea.jpg").stat()
    assert rows(tmp_path / "out")["chelsea.jpg"]["etag"].startswith(f"{stat.st_mtime_ns:x}-")
    assert not run(folder).published


def test_equal_images_of_one_shard_are_computed_once(folder, run, tmp_path, computed):
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes((folder / "chelsea.jpg").read_bytes())
    summary = run(folder)
    assert (summary.embedded, summary.reused, computed()) == (6, 3, 6)
    after = rows(tmp_path / "out")
    assert all(
        shared(after[f"{number}.jpg"]) == shared(after["chelsea.jpg"]) for number in range(3)
    )


@pytest.mark.usefixtures("own_engines")
def test_equal_images_in_different_chunks_of_a_shard_are_computed_once(
    folder, run, tmp_path, computed, monkeypatch
):
    (folder / "zz-astronaut.jpg").write_bytes((folder / "astronaut.jpg").read_bytes())
    monkeypatch.setattr(transforms.extract, "_CHUNK_BYTES", 0)
    real = transforms.work.load_engine

    def small_batches(config):
        engine = real(config)
        engine.batch_size = 2
        return engine

    monkeypatch.setattr(transforms.work, "load_engine", small_batches)
    summary = run(folder)
    assert (summary.embedded, summary.reused, computed()) == (6, 1, 6)
    after = rows(tmp_path / "out")
    assert shared(after["zz-astronaut.jpg"]) == shared(after["astronaut.jpg"])


def test_equal_images_that_are_broken_all_fail(folder, run, tmp_path):
    for name in ("broken-1", "broken-2", "broken-3"):
        (folder / f"{name}.jpg").write_bytes((folder / "chelsea.jpg").read_bytes()[:3000])
    summary = run(folder, max_failure_rate=1)
    assert (summary.embedded, summary.reused, summary.failures_by_kind) == (6, 0, {"truncated": 3})
    assert [Path(error["uri"]).stem for error in read_errors(tmp_path / "out")] == [
        "broken-1",
        "broken-2",
        "broken-3",
    ]


def test_a_rebuild_computes_everything_anew(folder, run, tmp_path, computed):
    run(folder)
    summary = run(folder, rebuild=True)
    assert (summary.embedded, summary.reused, computed()) == (6, 0, 12)


def test_beyond_the_bound_of_parts_images_are_computed(
    folder, run, tmp_path, computed, monkeypatch
):
    """Of six parts with six vectors two are read, and the vectors of the others are computed."""
    run(folder, shard_size=1)
    before = read_features(tmp_path / "out")
    monkeypatch.setattr(transforms.parts.reuse, "_MAX_PARTS", 2)
    folder.rename(tmp_path / "moved")
    summary = run(tmp_path / "moved", max_removed_rate=1)
    assert (summary.embedded, summary.reused) == (4, 2)
    np.testing.assert_allclose(vectors(read_features(tmp_path / "out")), vectors(before), atol=1e-5)


def test_a_part_that_was_vacuumed_since_the_plan_costs_only_work(
    folder, run, tmp_path, monkeypatch
):
    import pipeline.steps.extract

    run(folder)
    real = pipeline.steps.extract.extract_shards

    def vacuum_first(*arguments):
        for part in (tmp_path / "out/features").glob("part-*"):
            part.rename(tmp_path / part.name)
        real(*arguments)
        for part in tmp_path.glob("part-*"):
            part.rename(tmp_path / "out/features" / part.name)

    (folder / "zz-cat.jpg").write_bytes((folder / "chelsea.jpg").read_bytes())
    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", vacuum_first)
    assert run(folder).embedded == 1


def test_only_rows_of_a_size_that_is_to_do_are_in_the_index(folder, run, tmp_path, photos):
    run(folder)
    make_folder(folder / "more", photos, "cell")
    (folder / "zz-cat.jpg").write_bytes((folder / "chelsea.jpg").read_bytes())
    summary = run(folder)
    index = pq.read_table(tmp_path / "out/runs" / summary.run_id / "index.parquet")
    digest = hashlib.sha256((folder / "chelsea.jpg").read_bytes()).hexdigest()
    assert index["prefix"].to_pylist() == [int(digest[:16], 16)]


@pytest.fixture
def table(tmp_path):
    """Make a part with the rows of two contents; return it with its storage."""
    schema = features_schema(2)
    contents = ["a" * 64, "b" * 64]
    columns = {field.name: pa.nulls(2, field.type) for field in schema}
    columns["content_sha256"] = pa.array(contents)
    columns["embedding"] = pa.array([[1.0, 2.0], [3.0, 4.0]], schema.field("embedding").type)
    part = pa.table(
        list(columns.values()), schema=pa.schema([replace_null(field) for field in schema])
    )
    (tmp_path / "features").mkdir()
    encoded = encode_part(part, {})
    name = f"part-one-{digest(encoded)}.parquet"
    (tmp_path / "features" / name).write_bytes(encoded)
    index = encode_index(pa.table({"content_sha256": contents, "part": [name] * 2}))
    (tmp_path / "index.parquet").write_bytes(index)
    return open_storage(str(tmp_path))


def replace_null(field):
    return field.with_nullable(True)


def found(reuse, *contents):
    return sorted(
        row["content_sha256"][0] for rows in reuse.find(list(contents)) for row in rows.to_pylist()
    )


def test_the_whole_hash_decides_not_the_indexs_part_of_it(table):
    reuse = Reuse(table, "index.parquet")
    assert found(reuse, "a" * 64, "c" * 64, "0" * 64, "f" * 64) == ["a"]
    assert found(reuse, "a" * 16 + "0" * 48) == []


def test_without_an_index_a_shard_knows_only_its_own(table):
    reuse = Reuse(table, None)
    assert found(reuse, "a" * 64) == []
    [rows] = Reuse(table, "index.parquet").find(["a" * 64])
    reuse.remember(rows)
    assert found(reuse, "a" * 64, "b" * 64) == ["a"]


def test_the_index_names_each_content_once_and_in_order():
    contents = ["ff" * 32, "00" * 32, "ff" * 32, None]
    encoded = encode_index(pa.table({"content_sha256": contents, "part": ["p", "q", "r", "s"]}))
    index = parquet.read(encoded)
    assert index.to_pydict() == {"prefix": [0, 2**64 - 1], "part": ["q", "p"]}
