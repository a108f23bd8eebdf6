"""Compact merges small parts and changes nothing else."""

import json
import logging

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

import pipeline.maintenance.compact
from pipeline.maintenance.compact import compact, compact_if_needed
from pipeline.maintenance.verify import verify
from pipeline.state.run import load_runs
from tests.helpers.outputs import break_off, live, state
from tests.helpers.runs import make_folder, read_errors, read_features
from transforms.errors import Refused
from transforms.parts.compact import SmallPart, group_parts, is_small
from transforms.parts.write import read_recipe
from transforms.records import features_schema
from transforms.storage import open_storage


def test_grouping_fills_parts_up_with_neighbours_and_leaves_one_alone():
    facts = [("d", 30, "z"), ("a", 40, "c"), ("b", 45, "a"), ("c", 20, "b")]
    small = [SmallPart(path, size, uri) for path, size, uri in facts]
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
    assert {c[kind]["dataChange"] for c in changes for kind in ("add", "remove") if kind in c} == {
        False
    }


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


def test_a_run_that_is_not_finished_keeps_its_version(
    night, own_images, tmp_path, monkeypatch, caplog
):
    night()
    make_folder(own_images / "more", own_images, "coffee")
    break_off(night, monkeypatch)
    with pytest.raises(Refused, match=r"run \S+ in .*/out is not finished.* nothing was done"):
        compact(str(tmp_path / "out"))
    assert len(live(tmp_path / "out")) == 3
    caplog.clear()
    # Three parts are within the limit, so nothing is logged.
    assert compact_if_needed(str(tmp_path / "out")) == []
    assert caplog.messages == []
    assert night().embedded == 1


def test_a_run_merges_by_itself_when_there_are_many_small_parts(
    night, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(pipeline.maintenance.compact, "MAX_SMALL_PARTS", 2)
    caplog.set_level(logging.INFO)
    summary = night()
    assert (summary.published, summary.version) == (True, 0)
    assert len(live(tmp_path / "out")) == 1
    assert "merged 3 small parts of features into 1: version 1" in caplog.messages
    assert verify(str(tmp_path / "out"), sample=2).clean


def test_a_run_leaves_few_small_parts_alone(night, tmp_path):
    night()
    assert len(live(tmp_path / "out")) == 3 < pipeline.maintenance.compact.MAX_SMALL_PARTS
    assert compact_if_needed(str(tmp_path / "out")) == []


def test_a_merge_that_fails_does_not_fail_the_run(night, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pipeline.maintenance.compact, "MAX_SMALL_PARTS", 2)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(pipeline.maintenance.compact, "merge_parts", full)
    assert night().published
    [warning] = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert warning.startswith(
        "small parts were not merged: No space left on device. 'image-features compact "
    )
    assert len(live(tmp_path / "out")) == 3
    assert load_runs(open_storage(str(tmp_path / "out")), 1)[0].state == "published"


def test_a_run_that_is_faster_than_a_merge_wins(night, own_images, tmp_path, monkeypatch):
    night()
    make_folder(own_images / "more", own_images, "coffee")
    real = pipeline.maintenance.compact.merge_parts

    def late(*arguments):
        monkeypatch.setattr(pipeline.maintenance.compact, "merge_parts", real)
        night()
        return real(*arguments)

    monkeypatch.setattr(pipeline.maintenance.compact, "merge_parts", late)
    with pytest.raises(Refused, match="another run published"):
        compact(str(tmp_path / "out"))
    assert read_features(tmp_path / "out").num_rows == 8
    assert verify(str(tmp_path / "out")).clean
