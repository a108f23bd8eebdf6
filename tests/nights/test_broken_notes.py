"""Files that a power cut or a full disk left half written are named, and stop no next night."""

import json
import os
import re
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.maintenance.verify import verify
from pipeline.state.run import load_runs, new_run_id
from pipeline.tables import Tables
from tests.helpers.outputs import break_off, state
from transforms.storage import open_storage


def damage(path, how):
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    half, last = whole[: len(whole) // 2], b"".join(lines[:-1])
    damaged = {
        "empty": b"",
        "half": half,
        "zeros": bytes(len(whole)),
        "first line": lines[0],
        "no last line": last,
    }
    path.write_bytes(damaged[how])


@pytest.mark.parametrize("how", ["empty", "half", "zeros", "first line", "no last line"])
def test_a_log_entry_that_was_not_written_whole_is_named_and_deleting_it_is_the_way_back(
    night, own_images, tmp_path, capsys, how
):
    output = tmp_path / "out"
    night()
    (own_images / "rocket.jpg").unlink()
    night()
    entry = output / "features/_delta_log/00000000000000000001.json"
    damage(entry, how)
    for words in (["show"], ["verify"], ["history"]):
        assert main([*words, str(output)]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert re.search(
            rf"{entry} was not written whole \([\d,]+ bytes\).* Delete this file", line
        )
    entry.unlink()
    night()
    assert verify(str(output)).clean
    assert not any("rocket" in str(row) for row in state(output)[0])


def test_an_empty_log_entry_in_a_bucket_is_named(output, s3, capsys):
    """An interrupted copy leaves one."""
    for path in (path for path in output.rglob("*") if path.is_file()):
        s3.put(f"out/{path.relative_to(output)}", path.read_bytes())
    assert Tables.open(open_storage(f"{s3.url}/out")).features.version == 1
    entry = "out/features/_delta_log/00000000000000000001.json"
    s3.put(entry, b"")
    assert main(["show", f"{s3.url}/out"]) == 1
    assert f"{s3.url}/{entry} was not written whole (0 bytes)" in capsys.readouterr().err
    s3.client.delete_object(Bucket=s3.bucket, Key=entry)
    assert Tables.open(open_storage(f"{s3.url}/out")).features.version == 0


@pytest.mark.parametrize("how", ["empty", "half"])
def test_the_note_of_a_run_that_cannot_be_read_is_named_and_stops_nothing(
    night, own_images, tmp_path, caplog, how
):
    output = tmp_path / "out"
    night()
    note = next(output.glob("runs/*/run.json"))
    damage(note, how)
    for command in ("show", "status"):
        assert main([command, str(output)]) in (0, 2)
        assert f"{note.relative_to(output)} of a run cannot be read" in caplog.text
    assert main(["vacuum", str(output)]) == 0
    (own_images / "rocket.jpg").unlink()
    assert night().removed == 1


def test_a_note_of_another_form_and_a_folder_of_an_impossible_date_stop_nothing(output, caplog):
    storage = open_storage(str(output))
    newest = new_run_id(storage)
    for impossible in (
        "20261399T000000Z-0000",
        "99991231T235959.999Z-0000",
        "00000101T000000Z-0000",
    ):
        (output / "runs" / impossible).mkdir()
        assert newest.partition(".")[0] <= new_run_id(storage) < "9"
    note = next(output.glob("runs/*/run.json"))
    note.write_text(json.dumps({**json.loads(note.read_text()), "plan": "lost"}))
    assert len(load_runs(storage, limit=9)) == 1
    assert f"{note.relative_to(output)} of a run cannot be read" in caplog.text


def test_a_receipt_that_cannot_be_read_is_named_and_its_shard_is_done_again(
    night, tmp_path, monkeypatch, caplog
):
    output = tmp_path / "out"
    break_off(night, monkeypatch)
    receipt = next(output.glob("runs/*/receipts/*.json"))
    damage(receipt, "half")
    assert night().published
    assert f"the receipt {receipt.relative_to(output)} cannot be read" in caplog.text
    assert verify(str(output)).clean


def test_a_run_whose_plan_is_lost_is_planned_anew(night, own_images, tmp_path, monkeypatch, caplog):
    output = tmp_path / "out"
    break_off(night, monkeypatch)
    receipt = next(output.glob("runs/*/receipts/*.json"))
    (receipt.parent.parent / "plan" / f"{receipt.stem}.parquet").unlink()
    receipt.unlink()
    assert night().published
    assert "is planned anew" in caplog.text
    assert load_runs(open_storage(str(output)), limit=2)[1].state == "superseded"
    assert verify(str(output)).clean


@pytest.fixture
def synced(monkeypatch):
    """Collect what was synced to survive a power cut."""
    paths = set()
    real = os.fsync

    def fsync(descriptor):
        paths.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_a_commit_is_on_the_disk_before_it_is_told(night, tmp_path, synced):
    """The entry, its folder, the table's folder and the output's, for both tables."""
    night()
    for table in ("features", "errors"):
        log = tmp_path / "out" / table / "_delta_log"
        assert {str(log / "00000000000000000000.json"), str(log), str(log.parent)} <= synced
    assert str(tmp_path / "out") in synced


def test_a_commit_of_a_process_that_was_killed_is_put_on_the_disk_by_the_next_one(
    night, tmp_path, monkeypatch, synced
):
    def fail(*_):
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.tables.table.make_durable", fail)
        with pytest.raises(OSError, match="killed here"):
            night()
    entry = str(tmp_path / "out/errors/_delta_log/00000000000000000000.json")
    assert Path(entry).exists()
    assert entry not in synced
    assert night().published
    assert entry in synced


def test_a_version_whose_rows_do_not_follow_from_its_commit_is_a_problem(output):
    log = output / "features/_delta_log/00000000000000000000.json"
    lines = [line for line in log.read_text().splitlines()]
    adds = [line for line in lines if line.startswith('{"add"')]
    log.write_text("\n".join(line for line in lines if line != adds[0]) + "\n")
    kinds = {problem.kind for problem in verify(str(output)).problems}
    assert "history" in kinds
