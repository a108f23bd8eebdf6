"""Rollback restores both tables together, and the next run processes the later images again."""

import re

import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline.maintenance.compact import compact
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.verify import verify
from pipeline.state.run import load_runs
from pipeline.tables.table import Table
from tests.helpers.outputs import break_off, live, parts, state
from tests.helpers.runs import make_folder, read_errors, read_features, vectors
from transforms.errors import Refused, RunFailed, UserError
from transforms.storage import open_storage


def test_rollback_brings_both_tables_back_and_the_next_run_does_again_what_came_since(
    night, own_images, tmp_path
):
    night()
    first = state(tmp_path / "out")
    make_folder(own_images / "more", own_images, "rocket")
    (own_images / "coffee.jpg").write_bytes((own_images / "coffee.jpg").read_bytes()[:500])
    Image.open(own_images / "camera.jpg").save(own_images / "broken.jpg")
    night()
    second = state(tmp_path / "out")
    line = str(rollback(str(tmp_path / "out"), 0))
    assert re.fullmatch(
        rf"rolled back {tmp_path}/out to version 0 of "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: "
        r"features 7 rows, errors 1 rows; readers see it as version 2",
        line,
    )
    assert state(tmp_path / "out") == first
    # Back to the newer version.
    rollback(str(tmp_path / "out"), 1)
    assert state(tmp_path / "out") == second
    # A version that a rollback made.
    rollback(str(tmp_path / "out"), 2)
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
    assert "to version 1 of " in str(rollback(str(output), 1))
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


def test_rollback_finds_the_merged_errors_when_the_parts_from_before_are_gone(
    night, own_images, tmp_path
):
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
    with pytest.raises(
        UserError,
        match=r"no version 7 of features in .*: there are 0 to 1 \(see 'image-features his",
    ):
        rollback(str(output), 7)


def test_rollback_to_parts_that_are_gone_changes_nothing(output):
    compact(str(output))
    old = sorted(set(parts(output)) - set(live(output)))
    (output / "features" / old[0]).unlink()
    with pytest.raises(
        Refused, match=rf"needs 1 parts that are not there any more \({old[0]}.*; nothing was done"
    ):
        rollback(str(output), 0)
    assert DeltaTable(output / "features").version() == 2


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
