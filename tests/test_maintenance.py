"""Compact, history and rollback: what they change, and what the next run makes of it."""

import json
import logging
import re
import shutil

import pyarrow.parquet as pq
import pytest
from conftest import make_folder, read_errors, read_features, vectors
from deltalake import DeltaTable
from outputs import FORTNIGHT, break_off, later, live, parts, state
from PIL import Image

import pipeline.maintenance
from pipeline.cli import main
from pipeline.maintenance import compact, compact_if_needed, history, rollback
from pipeline.runs import load_runs
from pipeline.tables import Table
from pipeline.vacuum import vacuum
from pipeline.verify import verify
from transforms.compact import SmallPart, group_parts, is_small
from transforms.errors import Refused, RunFailed, UserError
from transforms.records import features_schema
from transforms.storage import open_storage
from transforms.write import read_recipe

# Compact


def test_grouping_fills_parts_up_with_neighbours_and_leaves_one_alone():
    small = [SmallPart(path, size, uri) for path, size, uri in [("d", 30, "z"), ("a", 40, "c"), ("b", 45, "a"),
                                                                ("c", 20, "b")]]  # fmt: skip
    assert group_parts(small, target=100) == [["b", "c"], ["a", "d"]]
    assert group_parts(small[:1], target=100) == []
    assert group_parts([], target=100) == []
    many = [SmallPart(f"{n:03d}", 10 + n % 30, f"{n:03d}") for n in range(200)]
    groups = group_parts(many, target=100)
    sizes = {part.path: part.size for part in many}
    totals = [sum(sizes[path] for path in group) for group in groups]
    assert all(50 < total <= 100 for total in totals[:-1])
    assert not any(is_small(total, 100) for total in totals[:-1])
    assert [path for group in groups for path in group] == [part.path for part in many]


def test_merging_keeps_rows_types_order_and_recipe(output):
    before, errors = state(output)
    recipe = read_recipe((output / "features" / live(output)[0]).read_bytes())
    [done, *_] = compact(str(output))
    assert str(done) == "merged 4 small parts of features into 1: version 2"
    [merged] = live(output)
    assert read_features(output).equals(before)
    assert read_errors(output) == errors
    file = pq.read_table(output / "features" / merged)
    assert file.schema.remove_metadata() == features_schema(1280)
    assert file["uri"].to_pylist() == sorted(file["uri"].to_pylist())
    assert read_recipe((output / "features" / merged).read_bytes()) == recipe
    assert DeltaTable(output / "features", version=1).to_pyarrow_table().num_rows == 7
    assert compact(str(output)) == []
    actions = (output / "features/_delta_log/00000000000000000002.json").read_text().splitlines()
    changes = [json.loads(line) for line in actions]
    assert {c[kind]["dataChange"] for c in changes for kind in ("add", "remove") if kind in c} == {False}


def test_the_next_night_goes_on_from_merged_parts(night, own_images, tmp_path):
    night()
    compact(str(tmp_path / "out"))
    (own_images / "coffee.jpg").write_bytes((own_images / "camera.jpg").read_bytes() + b" ")
    summary = night()
    assert (summary.listed, summary.unchanged, summary.embedded) == (8, 6, 1)
    assert read_features(tmp_path / "out").num_rows == 7
    assert verify(str(tmp_path / "out")).clean


def test_errors_are_merged_too(night, own_images, tmp_path):
    night()
    (own_images / "empty.jpg").write_bytes(b"")
    night()
    before = read_errors(tmp_path / "out")
    assert len(before) == len(live(tmp_path / "out", "errors")) == 2
    compact(str(tmp_path / "out"))
    assert read_errors(tmp_path / "out") == before
    assert len(live(tmp_path / "out", "errors")) == 1


def test_a_run_that_is_not_finished_keeps_its_version(night, own_images, tmp_path, monkeypatch, caplog):
    night()
    make_folder(own_images / "more", own_images, "coffee")
    break_off(night, monkeypatch)
    with pytest.raises(Refused, match=r"run \S+ in .*/out is not finished.* nothing was done"):
        compact(str(tmp_path / "out"))
    assert len(live(tmp_path / "out")) == 3
    caplog.clear()
    assert compact_if_needed(str(tmp_path / "out")) == []  # three parts are few: nothing to say
    assert caplog.messages == []
    assert night().embedded == 1


def test_a_run_merges_by_itself_when_there_are_many_small_parts(night, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pipeline.maintenance, "MOST_SMALL_PARTS", 2)
    caplog.set_level(logging.INFO)
    summary = night()
    assert (summary.published, summary.version) == (True, 0)
    assert len(live(tmp_path / "out")) == 1
    assert "merged 3 small parts of features into 1: version 1" in caplog.messages
    assert verify(str(tmp_path / "out"), sample=2).clean


def test_a_run_leaves_few_small_parts_alone(night, tmp_path):
    night()
    assert len(live(tmp_path / "out")) == 3 < pipeline.maintenance.MOST_SMALL_PARTS
    assert compact_if_needed(str(tmp_path / "out")) == []


def test_a_merge_that_fails_does_not_fail_the_run(night, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pipeline.maintenance, "MOST_SMALL_PARTS", 2)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(pipeline.maintenance, "merge_parts", full)
    assert night().published
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("small parts were not merged: No space left on device. 'image-features compact ")
    assert len(live(tmp_path / "out")) == 3
    assert load_runs(open_storage(str(tmp_path / "out")), 1)[0].state == "published"


def test_a_run_that_is_faster_than_a_merge_wins(night, own_images, tmp_path, monkeypatch):
    night()
    make_folder(own_images / "more", own_images, "coffee")
    real = pipeline.maintenance.merge_parts

    def late(*arguments):
        monkeypatch.setattr(pipeline.maintenance, "merge_parts", real)
        night()
        return real(*arguments)

    monkeypatch.setattr(pipeline.maintenance, "merge_parts", late)
    with pytest.raises(Refused, match="another run published"):
        compact(str(tmp_path / "out"))
    assert read_features(tmp_path / "out").num_rows == 8
    assert verify(str(tmp_path / "out")).clean


# History


def test_history_tells_what_each_version_did(night, own_images, tmp_path):
    night()
    (own_images / "coffee.jpg").write_bytes((own_images / "camera.jpg").read_bytes() + b" ")
    make_folder(own_images / "more", own_images, "rocket chelsea")
    night()
    compact(str(tmp_path / "out"))
    rollback(str(tmp_path / "out"), 0)
    night(resize="crop", rebuild=True)
    header, *lines = history(str(tmp_path / "out")).splitlines()
    assert header.split() == ["version", "time", "(UTC)", "operation", "run", "rows", "added", "removed"]
    told = [re.fullmatch(r"(\d) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +(.*?) +\d{8}T\S+ +(\d+) +(\d+) +(\d+)", line).groups()
            for line in lines]  # fmt: skip
    assert told == [
        ("4", "rebuild", "9", "9", "7"),
        ("3", "rollback to 0", "7", "1", "3"),
        ("2", "compact", "9", "0", "0"),
        ("1", "extract", "9", "3", "1"),
        ("0", "extract", "7", "7", "0"),
    ]


def test_history_names_the_versions_of_another_writer(output):
    DeltaTable(output / "features").delete("uri like '%coffee%'")
    line = history(str(output)).splitlines()[1]
    assert re.search(r"^2 .*DELETE \(another writer\) +\? +\? +\?$", line)
    assert "receipts" not in [problem.kind for problem in verify(str(output)).problems]


# Rollback


def test_rollback_brings_both_tables_back_and_the_next_run_does_again_what_came_since(night, own_images, tmp_path):
    night()
    first = state(tmp_path / "out")
    make_folder(own_images / "more", own_images, "rocket")
    (own_images / "coffee.jpg").write_bytes((own_images / "coffee.jpg").read_bytes()[:500])
    Image.open(own_images / "camera.jpg").save(own_images / "broken.jpg")
    night()
    second = state(tmp_path / "out")
    line = rollback(str(tmp_path / "out"), 0)
    assert re.fullmatch(
        rf"rolled back {tmp_path}/out to version 0 of \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC: features 7 rows, "
        r"errors 1 rows; readers see it as version 2", line,
    )  # fmt: skip
    assert state(tmp_path / "out") == first
    rollback(str(tmp_path / "out"), 1)  # and forth
    assert state(tmp_path / "out") == second
    rollback(str(tmp_path / "out"), 2)  # a version that is a rollback itself
    assert state(tmp_path / "out") == first
    summary = night()
    assert (summary.listed, summary.unchanged, summary.embedded) == (9, 6, 2)
    features, errors = state(tmp_path / "out")
    columns = ["uri", "content_sha256", "label", "embedding"]
    assert features.select(columns) == second[0].select(columns)
    assert [(e["uri"], e["kind"]) for e in errors] == [(e["uri"], e["kind"]) for e in second[1]]
    assert verify(str(tmp_path / "out")).clean


def test_rollback_to_the_version_that_readers_see_changes_nothing(output):
    before = [DeltaTable(output / table).version() for table in ("features", "errors")]
    assert "to version 1 of " in rollback(str(output), 1)
    assert [DeltaTable(output / table).version() for table in ("features", "errors")] == before


def test_rollback_that_is_broken_off_between_the_tables_is_finished_by_the_next(
    night, own_images, tmp_path, monkeypatch
):
    night()
    first = state(tmp_path / "out")
    (own_images / "coffee.jpg").write_bytes(b"")
    night()
    real = Table.restore

    def broken_off(self, *arguments):
        if self.name == "errors":
            raise OSError("No space left on device")
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "restore", broken_off)
        with pytest.raises(OSError, match="No space"):
            rollback(str(tmp_path / "out"), 0)
    assert [problem.kind for problem in verify(str(tmp_path / "out")).problems] == ["overlap"]
    rollback(str(tmp_path / "out"), 0)
    assert state(tmp_path / "out") == first
    assert DeltaTable(tmp_path / "out/features").version() == 2  # restored once
    assert verify(str(tmp_path / "out")).clean


def test_rollback_gives_up_a_run_that_was_broken_off(night, own_images, tmp_path, monkeypatch):
    night()
    make_folder(own_images / "more", own_images, "coffee")
    night()
    (own_images / "empty.jpg").write_bytes(b"")
    break_off(night, monkeypatch)
    rollback(str(tmp_path / "out"), 0)
    assert load_runs(open_storage(str(tmp_path / "out")), 1)[0].state == "superseded"
    summary = night()
    assert (summary.embedded, summary.failures_by_kind) == (1, {"empty": 1})


def test_rollback_skips_an_errors_version_that_a_broken_off_run_committed_alone(
    night, own_images, tmp_path, monkeypatch
):
    night()
    first = state(tmp_path / "out")
    (own_images / "empty.jpg").write_bytes(b"")
    real = Table.commit

    def fail(self, commit):
        if self.name == "features":
            raise OSError("No space left on device")
        return real(self, commit)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", fail)
        with pytest.raises(OSError, match="No space"):
            night()
    assert len(read_errors(tmp_path / "out")) == 2
    rollback(str(tmp_path / "out"), 0)
    assert state(tmp_path / "out") == first


def test_rollback_finds_the_merged_errors_when_the_parts_from_before_are_gone(night, own_images, tmp_path):
    night()
    (own_images / "empty.jpg").write_bytes(b"")
    night()
    second = state(tmp_path / "out")
    before = set(live(tmp_path / "out", "errors"))
    compact(str(tmp_path / "out"))
    for name in before:
        (tmp_path / "out/errors" / name).unlink()
    (own_images / "empty2.jpg").write_bytes(b"")
    night()
    rollback(str(tmp_path / "out"), 1)
    assert state(tmp_path / "out") == second


def test_rollback_to_a_version_that_there_is_not_says_which_there_are(output):
    with pytest.raises(UserError, match=r"no version 7 of features in .*: there are 0 to 1 \(see 'image-features his"):
        rollback(str(output), 7)


def test_rollback_to_parts_that_are_gone_changes_nothing(output):
    compact(str(output))
    old = sorted(set(parts(output)) - set(live(output)))
    (output / "features" / old[0]).unlink()
    with pytest.raises(Refused, match=rf"needs 1 parts that are not there any more \({old[0]}.*; nothing was done"):
        rollback(str(output), 0)
    assert DeltaTable(output / "features").version() == 2


# The commands, and buckets


def test_the_commands_print_one_line_or_table_each(output, capsys):
    def told(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out.splitlines()

    place = str(output)
    assert told("compact", place)[0] == "merged 4 small parts of features into 1: version 2"
    assert told("compact", place) == ["nothing to merge"]
    assert [line.split()[0] for line in told("history", place)] == ["version", "2", "1", "0"]
    [line] = told("rollback", place, "1")
    assert line.startswith(f"rolled back {place} to version 1 of ")
    [line] = told("vacuum", place)
    assert line.startswith("freed nothing; every version that readers saw since ")
    assert told("vacuum", place, "--older-than", "1h", "--dry-run")[-1].startswith("would free nothing")
    assert told("verify", place)[-1].startswith("clean: version 3 of ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compact", "{tmp}/none"], 2, "nothing in {tmp}/none: no run has published there"),
        (["history", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["rollback", "{tmp}/none", "1"], 2, "nothing in {tmp}/none"),
        (["vacuum", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["verify", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["rollback", "{out}", "9"], 2, "no version 9"),
        (["rollback", "{out}", "last"], 2, "argument VERSION: invalid int value: 'last'"),
        (["vacuum", "{out}", "--older-than", "14"], 2, "'14': at least 1h; a number and h, d or w, as in 14d"),
        (["vacuum", "{out}", "--older-than", "0d"], 2, "'0d': at least 1h"),
        (["verify", "{out}", "--sample", "-3"], 2, "'-3': a number, 0 or more"),
        (["verify", "{out}", "--sample", "all"], 2, "'all': a number, 0 or more"),
        (["history", "{out}", "--rows", "1"], 2, "unknown option --rows"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(words, code, message, output, tmp_path, capsys):
    places = {"tmp": tmp_path, "out": output}
    assert main([word.format(**places) for word in words]) == code
    [line] = capsys.readouterr().err.splitlines()
    assert message.format(**places) in line


def test_all_of_it_in_a_bucket(s3, images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    output = f"{s3.url}/deep er/out"
    run(copies, output, max_failure_rate=1, shard_size=3)
    make_folder(copies / "more", images, "coffee")
    run(copies, output, max_failure_rate=1)
    assert str(compact(output)[0]) == "merged 4 small parts of features into 1: version 2"
    assert "features 7 rows, errors 1 rows; readers see it as version 3" in rollback(output, 0)
    assert [line.split()[3] for line in history(output).splitlines()[1:]] == [
        "rollback",
        "compact",
        "extract",
        "extract",
    ]
    run(copies, output, max_failure_rate=1)
    before = s3.keys()
    text = vacuum(output, FORTNIGHT, now=later())
    assert re.match(r"freed [\d.]+ KB in 2 parts, \d runs?;", text), text
    gone = sorted(set(before) - set(s3.keys()))
    assert len([key for key in gone if key.startswith("deep er/out/features/part-")]) == 2
    verification = verify(output, sample=20)
    assert verification.clean, str(verification)
    assert verification.sample.same == 8
    live = Table(output, "features").parts[0]["path"]
    s3.client.delete_object(Bucket=s3.bucket, Key=f"deep er/out/features/{live}")
    assert "missing" in [problem.kind for problem in verify(output).problems]


def test_a_rollback_that_another_writer_outran_is_refused(output, monkeypatch):
    real = DeltaTable.restore

    def late(self, *arguments, **options):
        monkeypatch.setattr(DeltaTable, "restore", real)
        compact(str(output))
        return real(self, *arguments, **options)

    monkeypatch.setattr(DeltaTable, "restore", late)
    with pytest.raises((Refused, RunFailed), match="another run published"):
        rollback(str(output), 0)
    assert DeltaTable(output / "features").version() == 2
    assert vectors(read_features(output)).shape == (7, 1280)
