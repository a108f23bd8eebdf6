"""Vacuum and commits at the same time, in both orders, and after either is killed.

On disk and in a bucket.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from deltalake import DeltaTable

import pipeline.maintenance.vacuum
import pipeline.run
from pipeline.maintenance.announce import announce_deletion
from pipeline.maintenance.compact import compact
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.vacuum import vacuum
from pipeline.maintenance.verify import verify
from pipeline.state.run import load_runs
from pipeline.tables.table import Table
from tests.helpers.outputs import FORTNIGHT, break_off, later
from tests.helpers.runs import make_folder
from transforms.engines.models import is_whole
from transforms.errors import Refused
from transforms.storage import open_storage

VACUUM = """
import os, sys, datetime
import pipeline.maintenance.vacuum
pipeline.maintenance.vacuum._delete_file = lambda *_: os._exit(9)
now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)
pipeline.maintenance.vacuum.vacuum(sys.argv[1], datetime.timedelta(days=14), now=now)
"""
ROLLBACK = """
import os, sys
import pipeline.maintenance.rollback
pipeline.maintenance.rollback.Table.restore = lambda *_: os._exit(9)
pipeline.maintenance.rollback.rollback(sys.argv[1], 1)
"""


@pytest.fixture(params=["disk", "bucket"])
def place(request, output):
    """An output whose version 1 has parts that its newest version, a merged one, lacks."""
    where = str(output)
    if request.param == "bucket":
        s3 = request.getfixturevalue("s3")
        for path in output.rglob("*"):
            if path.is_file():
                s3.put(f"out/{path.relative_to(output).as_posix()}", path.read_bytes())
        where = f"{s3.url}/out"
    compact(where)
    return where


def keys(place, folder="features"):
    return sorted(
        entry.key for entry in open_storage(place).list(folder) if "_delta_log" not in entry.key
    )


def kill(script, place):
    assert subprocess.run([sys.executable, "-c", script, place], check=False).returncode == 9


def time_passes(monkeypatch):
    """Make the notes of killed processes too old to count."""
    monkeypatch.setattr("pipeline.maintenance.announce.ABANDONED", timedelta(seconds=-1))


def test_a_rollback_after_vacuum_has_decided_keeps_its_parts(place, monkeypatch):
    @contextmanager
    def late(*arguments):
        rollback(place, 1)
        with announce_deletion(*arguments) as until:
            yield until

    monkeypatch.setattr(pipeline.maintenance.vacuum, "announce_deletion", late)
    before = keys(place)
    with pytest.raises(Refused, match="another command changed the features table meanwhile"):
        vacuum(place, FORTNIGHT, now=later())
    assert keys(place) == before
    assert keys(place, "announced") == []
    assert verify(place).clean


def test_a_rollback_while_vacuum_deletes_is_refused(place, monkeypatch):
    def meanwhile(*_):
        with pytest.raises(Refused, match="vacuum is deleting features/part-"):
            rollback(place, 1)

    monkeypatch.setattr(pipeline.maintenance.vacuum, "_check_same", meanwhile)
    vacuum(place, FORTNIGHT, now=later())
    assert keys(place, "announced") == []
    assert verify(place).clean


def test_vacuum_while_a_rollback_commits_deletes_nothing(place, monkeypatch):
    real = Table.restore

    def meanwhile(self, *arguments):
        with pytest.raises(Refused, match=r"a commit to .* is under way"):
            vacuum(place, FORTNIGHT, now=later())
        return real(self, *arguments)

    monkeypatch.setattr(Table, "restore", meanwhile)
    before = keys(place)
    rollback(place, 1)
    assert keys(place) == before
    assert verify(place).clean


def test_a_killed_vacuum_holds_a_rollback_up_for_a_while_only(place, monkeypatch):
    kill(VACUUM, place)
    with pytest.raises(
        Refused, match=r"vacuum is deleting .* one that was killed holds it up for 1 h at most"
    ):
        rollback(place, 1)
    assert verify(place).clean
    time_passes(monkeypatch)
    rollback(place, 1)
    assert verify(place).clean
    vacuum(place, FORTNIGHT, now=later())
    assert keys(place, "announced") == []
    assert verify(place).clean


def test_a_killed_rollback_holds_vacuum_up_for_a_while_only(place, monkeypatch):
    kill(ROLLBACK, place)
    before = keys(place)
    with pytest.raises(
        Refused, match=r"is under way .* one that was killed holds it up for 1 h at most"
    ):
        vacuum(place, FORTNIGHT, now=later())
    assert keys(place) == before
    time_passes(monkeypatch)
    vacuum(place, FORTNIGHT, now=later())
    assert len(keys(place)) < len(before)
    assert keys(place, "announced") == []
    assert verify(place).clean
    with pytest.raises(Refused, match="not there any more"):
        rollback(place, 1)


def test_vacuum_while_a_run_or_a_merge_commits_deletes_nothing(
    night, own_images, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    night()
    left = output / "features/.tmp-0123"
    left.write_bytes(b"half a part")
    real = Table.commit
    refused = []

    def meanwhile(self, commit):
        with pytest.raises(Refused, match=r"a commit to .* is under way"):
            vacuum(str(output), FORTNIGHT, now=later())
        refused.append(commit.operation)
        return real(self, commit)

    monkeypatch.setattr(Table, "commit", meanwhile)
    make_folder(own_images / "more", own_images, "coffee")
    assert night().published
    compact(str(output))
    assert refused == ["extract", "extract", "compact"]
    assert left.exists()
    assert verify(str(output)).clean


def test_a_run_at_work_keeps_its_old_parts_though_another_has_taken_its_place(
    night, own_images, tmp_path, monkeypatch
):
    """Its newest file shows that it is active."""
    output = tmp_path / "out"
    night()
    make_folder(own_images / "more", own_images, "coffee chelsea camera rocket")
    for number, path in enumerate(sorted((own_images / "more").iterdir())):
        path.write_bytes(path.read_bytes() + bytes([number + 1]))
    real = pipeline.run.publish

    def late(reconciled, *arguments):
        run = reconciled.run
        run.end(open_storage(str(output)), "superseded")
        old = time.time() - 7200
        files = [
            *(output / "features").glob(f"part-{run.run_id}-*"),
            *(output / run.folder).rglob("*.*"),
        ]
        for path in files:
            if path != max((output / run.folder / "receipts").iterdir()):
                os.utime(path, (old, old))
        vacuum(str(output), timedelta(hours=1))
        return real(reconciled, *arguments)

    monkeypatch.setattr(pipeline.run, "publish", late)
    assert night(shard_size=1).published
    assert load_runs(open_storage(str(output)), 1)[0].state == "published"
    assert verify(str(output)).clean
    assert DeltaTable(output / "features").version() == 1


@pytest.fixture
def old_network(night, tmp_path):
    """The network of the first night.

    The tables were rebuilt with another recipe, so that vacuum deletes this network.
    """
    night()
    [old] = (tmp_path / "out/models").iterdir()
    night(top_k=2, rebuild=True)
    return old


def test_a_run_that_begins_after_vacuum_has_decided_keeps_its_network(
    night, old_network, tmp_path, monkeypatch
):
    output = str(tmp_path / "out")

    @contextmanager
    def late(*arguments):
        break_off(lambda: night(rebuild=True), monkeypatch)
        with announce_deletion(*arguments) as until:
            yield until

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.maintenance.vacuum, "announce_deletion", late)
        with pytest.raises(Refused, match=r"run \S+ has begun meanwhile; nothing more was deleted"):
            vacuum(output, FORTNIGHT, now=later())
    assert is_whole(old_network)
    assert night(rebuild=True).published
    assert verify(output, sample=1).clean


def test_a_run_that_begins_while_vacuum_deletes_its_network_is_refused(
    night, old_network, tmp_path, monkeypatch
):
    output = str(tmp_path / "out")

    def meanwhile(*_):
        with pytest.raises(
            Refused, match=rf"vacuum is deleting models/{old_network.name}/.* Run the same command"
        ):
            night(rebuild=True)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.maintenance.vacuum, "_check_same", meanwhile)
        vacuum(output, FORTNIGHT, now=later())
    assert not old_network.exists()
    assert keys(output, "announced") == []
    assert night(rebuild=True).published
    assert verify(output, sample=1).clean
