"""The tables of several backbones: steps, refusals, kills, and commands that work on a table."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from deltalake import DeltaTable

import transforms.decode.pool
import transforms.work
from pipeline import repair, rollback, verify
from pipeline.cli import main
from pipeline.maintenance.vacuum import vacuum
from pipeline.state.run import load_runs
from pipeline.tables import Tables, pair_names
from tests.helpers.outputs import later
from tests.helpers.runs import make_folder
from tests.helpers.several import SMALL, SMALL_TABLE, night, read, stems
from transforms.errors import FailureKind, ImageError, Refused
from transforms.storage import open_storage


def killed(*words: str) -> int:
    """Run the command in a process that kills itself at the first point of a name."""
    command = [sys.executable, "-m", "tests.helpers.killed", *words]
    return subprocess.run(command, capture_output=True, timeout=120).returncode


@pytest.mark.parametrize(
    ("where", "published"),
    [
        (f"after commit {SMALL_TABLE}", [SMALL_TABLE]),
        ("before commit features", [SMALL_TABLE]),
        ("after commit errors", [SMALL_TABLE]),
        (f"before commit {SMALL_TABLE}", []),
        ("/MobileNetV3Small/receipts/", []),
    ],
)
def test_a_run_that_was_killed_between_its_commits_is_resumed(
    images, base, tmp_path, where, published, seen
):
    output = tmp_path / "out"
    words = ["extract", "--input", str(images), "--output", str(output), "--shard-size", "5"]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    # The names of the first pair are in those of the other, whose commits come before.
    count = "1" if "MobileNet" in where else "2"
    assert killed(where, count, *words) == -9
    for table in ("features", SMALL_TABLE):
        assert DeltaTable.is_deltatable(str(output / table)) == (table in published)
    both = night(images, output, SMALL)
    assert {each.state for each in both} == {"published"}
    if published:
        # All was computed before the first commit.
        assert not seen
    for table in ("features", SMALL_TABLE):
        assert read(output, table).equals(read(base, table))
        assert DeltaTable(output / table).version() == 0
    assert len(load_runs(open_storage(str(output)), 9)) == 1
    assert {each.state for each in night(images, output, SMALL)} == {"unchanged"}


@pytest.mark.parametrize(
    ("size", "table"), [(224, "features: "), (64, "features-MobileNetV3Small: ")]
)
def test_too_many_failures_of_one_network_publish_nothing(
    images, tmp_path, monkeypatch, size, table
):
    """No table is published without the others, and the next start begins anew."""
    real = transforms.work.embed

    def broken(engine, pixels):
        outputs, failures = real(engine, pixels)
        if engine.model.input_size == (size, size):
            error = ImageError("embed", FailureKind.NON_FINITE, "not finite")
            failures = dict.fromkeys(range(len(pixels)), error)
        return outputs, failures

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(transforms.work, "embed", broken)
        with pytest.raises(Refused, match=f"^{table}10 of 10 images failed"):
            night(images, output, SMALL)
    assert not (output / "features/_delta_log").exists()
    assert not (output / SMALL_TABLE / "_delta_log").exists()
    storage = open_storage(str(output))
    states = [load_runs(storage, 1, table)[0].state for table in ("", "MobileNetV3Small")]
    assert states == ["refused", "refused"]
    assert {each.state for each in night(images, output, SMALL)} == {"published"}


def test_a_first_run_with_nothing_to_do_ends_last(images, tmp_path, seen):
    output = tmp_path / "out"
    night(images, output)
    words = ["extract", "--input", str(images), "--output", str(output), "--shard-size", "5"]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    assert killed(f"before commit {SMALL_TABLE}", "1", *words) == -9
    seen.clear()
    first, second = night(images, output, SMALL)
    assert (first.state, second.state) == ("unchanged", "published")
    assert not seen


def test_each_command_works_on_the_named_table(own, capsys, photos):
    images, output = own
    make_folder(images / "more", photos, "cell")
    night(images, output, SMALL)
    for command in ("verify", "show", "history", "repair", "compact"):
        assert main([command, str(output), "--table", "MobileNetV3Small"]) == 0
    said = capsys.readouterr().out
    assert f"clean: version 1 of {output}/{SMALL_TABLE}, 10 rows" in said
    assert f"{SMALL_TABLE}  10 rows" in said
    assert f"small parts of {SMALL_TABLE} into 1" in said
    assert main(["show", str(output)]) == 0
    assert "further tables (--table): MobileNetV3Small" in capsys.readouterr().out
    assert main(["rollback", str(output), "0", "--table", "MobileNetV3Small"]) == 0
    assert len(stems(output, SMALL_TABLE)) == 9
    assert len(stems(output, "features")) == 10
    assert DeltaTable(output / "features").version() == 1
    assert main(["verify", str(output), "--table", "ResNet50"]) == 2
    assert "there are: MobileNetV3Small" in capsys.readouterr().err
    first, second = night(images, output, SMALL)
    assert (first.state, second.new) == ("unchanged", 1)


def test_a_damaged_part_of_either_table_is_repaired(own):
    images, output = own
    part = next((output / SMALL_TABLE).glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    [done] = repair(str(output), table="MobileNetV3Small")
    assert done.table == SMALL_TABLE
    first, second = night(images, output, SMALL)
    assert (first.state, second.state) == ("unchanged", "published")
    # Damage that the run itself meets.
    part = next((output / SMALL_TABLE).glob("part-*.parquet"))
    for part in (output / SMALL_TABLE).glob("part-*.parquet"):
        part.write_bytes(b"")
    assert night(images, output, SMALL)[1].state == "published"
    assert verify(str(output), table="MobileNetV3Small").clean


def test_vacuum_keeps_what_any_table_needs(own, photos):
    images, output = own
    make_folder(images / "more", photos, "cell")
    night(images, output)
    night(images, output, SMALL)
    freed = vacuum(str(output), timedelta(days=14), now=later())
    # The first table has one run more: nothing that the other one needs is in it.
    assert {garbage.kind for garbage in freed.garbage} <= {"run"}
    assert not freed.left_alone
    assert len(list((output / "models").iterdir())) == 2
    for table in ("", "MobileNetV3Small"):
        assert verify(str(output), sample=2, table=table).clean
    (images / "coffee.jpg").unlink()
    night(images, output, SMALL)
    freed = vacuum(str(output), timedelta(days=14), now=later())
    gone = {garbage.key.split("/")[0] for garbage in freed.garbage if garbage.kind == "part"}
    assert gone == {"features", SMALL_TABLE}
    assert verify(str(output), sample=2, table="MobileNetV3Small").clean


def test_three_steps_status_and_metrics(images, base, tmp_path, capsys):
    output, metrics = tmp_path / "out", tmp_path / "m.jsonl"
    prometheus = tmp_path / "m.prom"
    words = ["--input", str(images), "--output", str(output), "--max-failure-rate", "0.5"]
    words += ["--backbone", "efficientnet_lite0", "--backbone", SMALL, "--shard-size", "5"]
    files = ["--metrics-json", str(metrics), "--metrics-prometheus", str(prometheus)]
    assert main(["extract", *words, "--dry-run"]) == 0
    assert not output.exists()
    assert main(["plan", *words]) == 0
    capsys.readouterr()
    assert main(["status", str(output)]) == 0
    said = capsys.readouterr().out
    assert said.count("0 / 2 shards") == 2
    assert f"{SMALL_TABLE}: run" in said
    assert main(["publish", str(output)]) == 1
    assert main(["extract", "--planned", *words]) == 0
    assert main(["publish", str(output), *files]) == 0
    said = capsys.readouterr().out
    assert f"published version 0 of {output}/{SMALL_TABLE}" in said
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [(line["table"], line["state"], line["embedded"]) for line in lines] == [
        ("features", "published", 8),
        (SMALL_TABLE, "published", 8),
    ]
    assert f'table="{SMALL_TABLE}"' in prometheus.read_text()
    for table in ("features", SMALL_TABLE):
        assert read(output, table).equals(read(base, table))


def test_rebuild_replaces_all_tables(own):
    images, output = own
    both = night(images, output, SMALL, rebuild=True)
    assert [(each.state, each.new, each.version) for each in both] == [("published", 10, 1)] * 2
    assert [DeltaTable(output / table).version() for table in ("features", SMALL_TABLE)] == [1, 1]


def test_removed_images_are_refused_for_all_tables(own):
    images, output = own
    for name in ("coffee", "rocket", "camera"):
        (images / f"{name}.jpg").unlink()
    with pytest.raises(Exception, match="are not listed any more"):
        night(images, output, SMALL)
    storage = open_storage(str(output))
    assert [load_runs(storage, 1, table)[0].state for table in ("", "MobileNetV3Small")] == [
        "refused",
        "refused",
    ]
    both = night(images, output, SMALL, keep_removed=True)
    assert [each.kept for each in both] == [3, 3]


def test_a_run_with_other_backbones_supersedes_an_unfinished_one(images, tmp_path):
    output = tmp_path / "out"
    words = ["extract", "--input", str(images), "--output", str(output)]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    assert killed("before commit", "1", *words) == -9
    [alone] = night(images, output)
    assert alone.state == "published"
    storage = open_storage(str(output))
    states = [run.state for run in load_runs(storage, 9)]
    assert states == ["published", "superseded"]
    assert load_runs(storage, 1, "MobileNetV3Small")[0].state == "superseded"
    assert [each.state for each in night(images, output, SMALL)] == ["unchanged", "published"]


@pytest.mark.parametrize("place", ["", "/out"])
def test_a_bucket_holds_several_tables(images, base, s3, place):
    output = f"{s3.url}{place}"
    both = night(images, output, SMALL)
    assert [each.state for each in both] == ["published", "published"]
    assert {each.state for each in night(images, output, SMALL)} == {"unchanged"}
    names = pair_names(open_storage(output))
    assert names == ["", "MobileNetV3Small"]
    for table in names:
        assert verify(output, table=table).clean
    freed = vacuum(output, timedelta(days=14), now=later())
    assert {garbage.kind for garbage in freed.garbage} <= {"run"}
    rows = Tables.published(open_storage(output), "MobileNetV3Small").features.read(["uri"])
    assert sorted(rows["uri"].to_pylist()) == read(base, SMALL_TABLE)["uri"].to_pylist()


def test_a_rollback_ends_an_unfinished_run_of_all_backbones(own, photos):
    images, output = own
    make_folder(images / "more", photos, "cell")
    night(images, output, SMALL)
    make_folder(images / "most", photos, "page")
    words = ["extract", "--input", str(images), "--output", str(output)]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    assert killed("before commit", "1", *words) == -9
    rollback(str(output), 0, table="MobileNetV3Small")
    storage = open_storage(str(output))
    for table in ("", "MobileNetV3Small"):
        assert load_runs(storage, 1, table)[0].state == "superseded"
    assert [each.new for each in night(images, output, SMALL)] == [1, 2]
