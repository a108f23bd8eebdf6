"""An output made before the column phash existed goes on, and gets the column on the way."""

import json
import shutil

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.maintenance.compact import compact
from pipeline.maintenance.history import history
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.verify import verify
from pipeline.tables.table import Table
from tests.helpers.outputs import break_off, live
from tests.helpers.runs import make_folder
from transforms import records
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize
from transforms.records import with_new_columns

NEW = "phash"
OLD_NAMES = ["astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "rocket"]


def write_as_before(patch):
    """Let runs write the tables as they were before the column existed."""
    now = records.features_schema

    def before(dimension):
        schema = now(dimension)
        return schema.remove(schema.get_field_index(NEW))

    patch.setattr("transforms.parts.rows.features_schema", before)
    patch.setattr("pipeline.tables.snapshot.features_schema", before)


@pytest.fixture(scope="module")
def old(tmp_path_factory, photos):
    """Make ``images`` and ``out``, of three parts without the column."""
    from pipeline import Config, extract

    root = tmp_path_factory.mktemp("old")
    images = make_folder(root / "images", photos)
    with pytest.MonkeyPatch.context() as patch:
        write_as_before(patch)
        extract(Config(inputs=(str(images),), output=str(root / "out"), shard_size=2))
    assert NEW not in column_names(root / "out")
    return root


@pytest.fixture(scope="module")
def mixed(old, tmp_path_factory, photos):
    """Add a night with another image to a copy of the old output."""
    from pipeline import Config, extract

    root = tmp_path_factory.mktemp("mixed")
    more = make_folder(root / "more", photos, "cell")
    shutil.copytree(old / "out", root / "out")
    extract(Config(inputs=(str(old / "images"), str(more)), output=str(root / "out")))
    return root


@pytest.fixture
def output(old, tmp_path):
    """Copy the output that no night has continued yet."""
    return shutil.copytree(old / "out", tmp_path / "out")


@pytest.fixture
def both(mixed, tmp_path):
    """Copy the output of old and new parts."""
    return shutil.copytree(mixed / "out", tmp_path / "both")


@pytest.fixture
def night(run, old, tmp_path, photos):
    """Return a function that runs over the old images and a folder of more photos."""

    def start(output, more, **options):
        folder = tmp_path / "more"
        if not folder.exists():
            make_folder(folder, photos, more)
        return run([old / "images", folder], output, **options)

    return start


def column_names(output):
    return [field.name for field in DeltaTable(output / "features").schema().fields]


def old_parts(output):
    folder = output / "features"
    return [name for name in live(output) if NEW not in pq.read_schema(folder / name).names]


def hashes(output):
    """Return the column as readers of the table see it, by file name without suffix."""
    rows = DeltaTable(output / "features").to_pyarrow_table(columns=["uri", NEW]).to_pylist()
    return {row["uri"].rpartition("/")[2].partition(".")[0]: row[NEW] for row in rows}


def hash_of(path, resize="squash"):
    return DecodeAndResize(DecodePolicy(), (224, 224), resize)(path.read_bytes()).phash


def operations(output):
    return [version.change.operation for version in history(str(output)).versions]


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_fresh_run_hashes_each_image_in_one_commit(folder, run, tmp_path, resize):
    run(folder, resize=resize)
    found = hashes(tmp_path / "out")
    assert found == {path.stem: hash_of(path, resize) for path in folder.iterdir()}
    assert len(set(found.values())) == 6
    assert operations(tmp_path / "out") == ["extract"]
    assert column_names(tmp_path / "out") == records.features_schema(1).names


def test_an_old_output_goes_on_and_keeps_null_in_old_rows(old, output, run, tmp_path, photos):
    assert verify(str(output)).clean
    more = make_folder(tmp_path / "more", photos, "cell")
    shutil.copy(old / "images/coffee.jpg", more / "copy.jpg")
    rocket = (old / "images/rocket.jpg").rename(tmp_path / "rocket.jpg")
    summary = run([old / "images", more], output)
    assert (summary.embedded, summary.reused, summary.removed) == (1, 1, 1)
    nothing = dict.fromkeys([*OLD_NAMES[:-1], "copy"])
    assert hashes(output) == nothing | {"cell": hash_of(more / "cell.jpg")}
    assert operations(output) == ["add_columns", "extract", "extract"]
    assert summary.version == DeltaTable(output / "features").version() == 2
    # The part of rocket.jpg was rewritten.
    assert len(old_parts(output)) == 2
    checked = verify(str(output), sample=7)
    assert (checked.clean, checked.sample.same) == (True, 7)
    assert not run([old / "images", more], output).published
    run([old / "images", more], output, rebuild=True)
    assert None not in hashes(output).values()
    assert verify(str(output)).clean
    rocket.rename(old / "images/rocket.jpg")


def test_a_run_without_new_images_changes_nothing(old, run, output):
    assert not run(old / "images", output).published
    assert NEW not in column_names(output)


def test_compact_merges_old_and_new_parts(both):
    before = hashes(both)
    compact(str(both))
    assert hashes(both) == before
    [merged] = live(both)
    schema = pq.read_schema(both / "features" / merged)
    assert schema.remove_metadata() == records.features_schema(1280)
    assert verify(str(both)).clean


def test_compact_of_old_parts_adds_the_column(output):
    compact(str(output))
    assert hashes(output) == dict.fromkeys(OLD_NAMES)
    assert operations(output) == ["add_columns", "compact", "extract"]
    assert verify(str(output)).clean


def test_rollback_leads_back_to_each_version(night, both, mixed):
    newest = hashes(both)
    rollback(str(both), 0)
    assert NEW not in column_names(both)
    assert verify(str(both)).clean
    rollback(str(both), 2)
    assert hashes(both) == newest
    # The version between the two commits has rows with the column, which readers do not see.
    rollback(str(both), 0)
    rollback(str(both), 1)
    assert NEW not in column_names(both)
    assert verify(str(both)).clean
    assert night(both, "coins", keep_removed=True).embedded == 1
    coins = next(path for path in both.parent.glob("more/coins.jpg"))
    assert hashes(both) == newest | {"coins": hash_of(coins)}
    assert verify(str(both)).clean


def test_a_run_killed_between_its_commits_is_resumed_and_adds_the_column(
    night, output, tmp_path, monkeypatch
):
    real = Table._add_columns

    def killed(self, *arguments):
        if self.name == "features":
            raise OSError("killed")
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "_add_columns", killed)
        with pytest.raises(OSError, match="killed"):
            night(output, "cell")
    assert operations(output) == ["extract", "extract"]
    assert night(output, "cell").published
    assert operations(output) == ["add_columns", "extract", "extract"]
    assert verify(str(output)).clean
    (tmp_path / "more/copy.jpg").write_bytes((tmp_path / "more/cell.jpg").read_bytes())
    night(output, "cell")
    assert hashes(output)["copy"] == hashes(output)["cell"] == hash_of(tmp_path / "more/cell.jpg")
    assert verify(str(output)).clean


def test_an_unfinished_run_of_before_is_resumed(night, output, monkeypatch):
    """Its parts lack the column, and those of the shards that were missing have it."""
    with monkeypatch.context() as patch:
        write_as_before(patch)
        break_off(lambda: night(output, "cell coins", shard_size=1), monkeypatch)
    [*_, last] = sorted(output.glob("runs/*/receipts/*.json"))
    part = json.loads(last.read_text())["part"]["path"]
    last.unlink()
    (output / "features" / part).unlink()
    assert night(output, "cell coins", shard_size=1).embedded == 2
    found = hashes(output)
    assert sorted(found[name] is None for name in ("cell", "coins")) == [False, True]
    assert verify(str(output)).clean


def test_readers_of_the_files_see_null_in_old_parts(both):
    files = DeltaTable(both / "features").file_uris()
    expected = sorted(hashes(both).values(), key=str)
    rows = duckdb.read_parquet(files, union_by_name=True).select(NEW).fetchall()
    assert sorted((value for (value,) in rows), key=str) == expected
    frame = pl.concat([pl.scan_parquet(file) for file in files], how="diagonal").collect()
    assert sorted(frame[NEW].to_list(), key=str) == expected
    schema = pa.unify_schemas([pq.read_schema(file) for file in files])
    table = ds.dataset(files, schema=schema).to_table(columns=[NEW])
    assert sorted(table[NEW].to_pylist(), key=str) == expected


def test_another_kind_of_column_is_a_problem(both):
    [new] = set(live(both)) - set(old_parts(both))
    path = both / "features" / new
    table = pq.read_table(path)
    place = table.schema.get_field_index(NEW)
    pq.write_table(table.set_column(place, NEW, table[NEW].cast("string")), path)
    problems = [problem.what for problem in verify(str(both)).problems]
    assert any(
        "the column phash is" in what and "string" in what and "should be" in what
        for what in problems
    )


def test_rows_of_errors_get_no_column():
    rows = records.ERRORS_SCHEMA.empty_table()
    assert with_new_columns(rows).equals(rows)
