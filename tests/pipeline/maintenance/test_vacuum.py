"""Vacuum deletes only what nothing needs, and the tables stay usable."""

import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.maintenance.compact import compact
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.vacuum import vacuum
from pipeline.maintenance.verify import verify
from pipeline.state.run import load_runs
from tests.helpers.outputs import FORTNIGHT, break_off, later, live, parts, state
from tests.helpers.runs import make_folder
from transforms.errors import Refused
from transforms.storage import open_storage


def test_vacuum_deletes_what_no_young_version_needs_and_the_table_goes_on(
    night, own_images, tmp_path
):
    output = tmp_path / "out"
    night()
    (own_images / "coffee.jpg").write_bytes((own_images / "camera.jpg").read_bytes() + b" ")
    night()
    compact(str(output))
    seen = state(output)
    old = set(parts(output)) - set(live(output))
    assert len(old) > 4
    text = str(vacuum(str(output), FORTNIGHT, now=later()))
    assert set(parts(output)) == set(live(output))
    assert re.fullmatch(
        r"freed [\d.]+ KB in 5 parts, 1 run; every version that readers saw since .* UTC stays",
        text,
    )
    assert state(output) == seen
    assert verify(str(output), sample=3).clean
    with pytest.raises(Refused, match="not there any more"):
        rollback(str(output), 0)
    assert str(vacuum(str(output), FORTNIGHT, now=later())).startswith("freed nothing;")
    make_folder(own_images / "more", own_images, "chelsea")
    assert night().embedded == 1


def test_vacuum_leaves_everything_that_is_young(output):
    compact(str(output))
    before = sorted(path for path in output.rglob("*") if path.is_file())
    assert str(vacuum(str(output), FORTNIGHT)).startswith("freed nothing;")
    assert str(vacuum(str(output), FORTNIGHT, now=later(13))).startswith("freed nothing;")
    assert sorted(path for path in output.rglob("*") if path.is_file()) == before
    rollback(str(output), 0)


def set_time(output, table, version, moment):
    """Set the time of a commit."""
    path = output / table / "_delta_log" / f"{version:020d}.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"]["timestamp"] = round(moment.timestamp() * 1000)
    path.write_text("\n".join(map(json.dumps, lines)))


def test_vacuum_keeps_the_version_that_was_current_when_the_time_began(output):
    """The second of three versions was replaced within the fortnight: readers may have used it."""
    compact(str(output))
    now = datetime.now(UTC)
    for version, days in ((0, 60), (1, 50), (2, 3)):
        set_time(output, "features", version, now - timedelta(days=days))
    for path in output.rglob("*.parquet"):
        os.utime(path, ((now - timedelta(days=60)).timestamp(),) * 2)
    vacuum(str(output), FORTNIGHT, now=now)
    assert verify(str(output)).clean
    rollback(str(output), 1)
    assert verify(str(output), sample=2).clean


def test_a_clock_that_is_months_ahead_makes_nothing_old(output, monkeypatch, caplog):
    """Vacuum uses the storage's own clock."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=90)

    compact(str(output))
    before = sorted(path for path in output.rglob("*") if path.is_file())
    monkeypatch.setattr("pipeline.maintenance.vacuum.datetime", Ahead)
    assert str(vacuum(str(output), FORTNIGHT)).startswith("freed nothing;")
    assert "the latter counts" in caplog.text
    assert sorted(path for path in output.rglob("*") if path.is_file()) == before


def test_vacuum_tells_before_it_deletes(output):
    compact(str(output))
    before = sorted(output.rglob("*"))
    text = str(vacuum(str(output), FORTNIGHT, dry_run=True, now=later()))
    assert sorted(output.rglob("*")) == before
    lines = text.splitlines()
    assert len([line for line in lines if re.match(r"features/part-\S+\.parquet  \d", line)]) == 4
    assert lines[-1].startswith("would free ")
    freed = str(vacuum(str(output), FORTNIGHT, now=later())).splitlines()[-1]
    assert freed.split(";")[0] == lines[-1].replace("would free", "freed").split(";")[0]


def test_vacuum_leaves_an_unfinished_run_all_that_it_needs(
    night, own_images, tmp_path, monkeypatch
):
    """Even an old run is resumed by the next start, with the parts that it has written."""
    output = tmp_path / "out"
    night()
    make_folder(own_images / "more", own_images, "coffee")
    break_off(night, monkeypatch)
    vacuum(str(output), FORTNIGHT, now=later())
    assert len(set(parts(output)) - set(live(output))) == 1
    embedded = []
    monkeypatch.setattr("transforms.work.embed", lambda *_: embedded.append(1))
    assert night().published
    assert not embedded
    assert verify(str(output)).clean


def test_vacuum_deletes_orphans_of_runs_that_were_given_up(
    night, own_images, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    night()
    make_folder(own_images / "more", own_images, "coffee")
    break_off(night, monkeypatch)
    [orphan] = set(parts(output)) - set(live(output))
    given_up = load_runs(open_storage(str(output)), 1)[0].run_id
    # There is nothing to roll back, so the run can still be resumed.
    rollback(str(output), 0)
    assert load_runs(open_storage(str(output)), 1)[0].state == "planned"
    compact_anyway(output)
    night()
    vacuum(str(output), FORTNIGHT, now=later())
    assert orphan not in parts(output)
    assert not (output / "runs" / given_up).exists()
    assert verify(str(output)).clean


def compact_anyway(output):
    """Compact in spite of an unfinished run, so that it cannot be resumed."""
    run = load_runs(open_storage(str(output)), 1)[0]
    note = output / run.folder / "run.json"
    text = note.read_text()
    note.unlink()
    compact(str(output))
    note.write_text(text)


def test_vacuum_deletes_networks_that_no_version_uses(night, tmp_path):
    output = tmp_path / "out"
    night()
    [old] = (output / "models").iterdir()
    night(top_k=2, rebuild=True)
    assert str(vacuum(str(output), FORTNIGHT, dry_run=True)).startswith("would free nothing")
    vacuum(str(output), FORTNIGHT, now=later())
    [new] = (output / "models").iterdir()
    assert new != old
    assert verify(str(output), sample=2).clean


def test_vacuum_deletes_what_killed_processes_left_and_nothing_of_others(output):
    left = output / "features/.tmp-0123"
    left.write_bytes(b"half a part")
    foreign = [
        output / "features/notes.txt",
        output / "features/other.parquet",
        output / "mine/part-1.parquet",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not ours")
    # A run that never got a plan.
    listed_only = output / "runs/20200101T000000Z-aaaa/listing/0.parquet"
    listed_only.parent.mkdir(parents=True)
    listed_only.write_bytes(b"listing")
    text = str(vacuum(str(output), FORTNIGHT, now=later()))
    assert "1 temporary file" in text
    assert not left.exists()
    assert not listed_only.parent.parent.exists()
    assert all(path.exists() for path in foreign)


def test_vacuum_keeps_the_receipts_that_verify_needs(night, own_images, tmp_path):
    """They belong to the run of the newest version, even after a merge or a rollback."""
    output = str(tmp_path / "out")
    night()
    (own_images / "empty.jpg").write_bytes(b"")
    (own_images / "coffee.jpg").write_bytes((own_images / "camera.jpg").read_bytes() + b" ")
    night()
    first, second = sorted((tmp_path / "out/runs").iterdir())
    back = shutil.copytree(tmp_path / "out", tmp_path / "back")
    assert len(compact(output)) == 2
    rollback(str(back), 0)
    for place in (output, str(back)):
        vacuum(place, FORTNIGHT, now=later(3000))
        verification = verify(place)
        assert verification.clean, str(verification)
    assert [path.name for path in (tmp_path / "out/runs").iterdir()] == [second.name]
    assert sorted(path.name for path in (back / "runs").iterdir()) == [first.name, second.name]


def test_a_deletion_that_breaks_off_leaves_no_folder_that_looks_whole(output, monkeypatch):
    """A network's folder counts as complete when it holds model.json: that is deleted first."""
    [model] = (output / "models").iterdir()
    unused = Path(shutil.copytree(model, output / "models" / ("0" * 64)))
    gone = []
    storage = type(open_storage(str(output)))
    real = storage.delete

    def breaks_off(self, key):
        if key.startswith("models/"):
            if gone:
                raise OSError("killed")
            gone.append(key)
        real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete", breaks_off)
        with pytest.raises(OSError, match="killed"):
            vacuum(str(output), FORTNIGHT, now=later())
    assert gone == [f"models/{unused.name}/model.json"]
    assert sorted(path.name for path in unused.iterdir()) == [
        "SHA256SUMS",
        "golden.npz",
        "graph.pb",
    ]
    vacuum(str(output), FORTNIGHT, now=later())
    assert not unused.exists()
    assert verify(str(output), sample=1).clean


def test_vacuum_leaves_what_is_not_ours_and_names_it(output):
    """A file whose name is not of the exact form stays, also next to files of this program."""
    old = output / "runs/20200101T000000Z-aaaa"
    foreign = [
        output / "models/X/model.json",
        output / "runs/X/run.json",
        output / "features/part-mine.parquet",
        output / "features/.tmp-x/file",
        output / "features/.tmp-mine",
        old / "notes.txt",
    ]
    for path in [*foreign, old / "plan/shard-00000.parquet"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")
    lines = str(vacuum(str(output), FORTNIGHT, now=later())).splitlines()
    assert all(path.exists() for path in foreign)
    assert not (old / "plan").exists()
    assert lines[0] == (
        "left alone, not written by this program: features/.tmp-mine, features/.tmp-x/file, "
        "features/part-mine.parquet, models/X/model.json, runs/20200101T000000Z-aaaa/notes.txt "
        "and 1 more"
    )
    assert "in 2 runs;" in lines[1]
    assert (
        str(vacuum(str(output), FORTNIGHT, now=later()))
        .splitlines()[1]
        .startswith("freed nothing;")
    )
    assert verify(str(output)).clean
