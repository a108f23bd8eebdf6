"""Faults during a night give a clear error or a failure row; the next run heals the table."""

import errno
import os
import random
import resource
import shutil
import urllib.request
from pathlib import Path

import pytest
from deltalake import DeltaTable

import pipeline.steps.extract
from pipeline.tables.table import Table
from tests.helpers.runs import make_folder, read_errors, read_features
from transforms.errors import Refused, RunFailed
from transforms.storage import StorageError


def stems(output):
    return sorted(Path(uri).stem for uri in read_features(output)["uri"].to_pylist())


@pytest.fixture
def second_night(folder, run, tmp_path, photos):
    """Publish a first night, and prepare changes of every kind."""
    run(folder, shard_size=3)
    make_folder(folder / "more", photos, "cell page")
    (folder / "broken.jpg").write_bytes(b"not an image")
    (folder / "copy.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    (folder / "chelsea.jpg").unlink()
    return lambda: run(folder, shard_size=3, max_failure_rate=1)


AFTER = ["astronaut", "camera", "cell", "coffee", "copy", "motorcycle_left", "page", "rocket"]


class Disk:
    """Counts the writes to the disk, and fails at one of them like a full or read-only disk."""

    def __init__(self, monkeypatch):
        self.count, self.fails_at, self.code = 0, 0, errno.ENOSPC
        real = os.fsync

        def fsync(descriptor):
            self.count += 1
            if self.count == self.fails_at:
                raise OSError(self.code, os.strerror(self.code))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.slow
def test_a_disk_that_fails_at_any_write_stops_the_run_and_the_next_one_heals(
    second_night, tmp_path, monkeypatch
):
    """The disk is full or read-only at every third write, each time from the same first night."""
    output, first = tmp_path / "out", tmp_path / "first"
    shutil.copytree(output, first)
    before = read_features(output)
    disk = Disk(monkeypatch)
    second_night()
    for point in range(random.Random(0).randint(1, 3), disk.count + 1, 3):
        shutil.rmtree(output)
        shutil.copytree(first, output)
        disk.count, disk.fails_at, disk.code = 0, point, errno.ENOSPC if point % 2 else errno.EROFS
        with pytest.raises(
            (RunFailed, StorageError), match=rf"cannot write .*: {os.strerror(disk.code)}"
        ):
            second_night()
        # After the commit, only the run's own note was left to do.
        committed = DeltaTable(output / "features").version()
        assert committed or read_features(output).equals(before)
        assert not list(output.rglob(".tmp-*"))
        disk.fails_at = 0
        summary = second_night()
        counts = (summary.listed, summary.reused, summary.removed, summary.failed)
        # Nothing is left to do when all is committed, and the note is on disk although its folder's
        # sync failed.
        assert counts == (9, 1, 1, 1) or (committed and counts == (9, 0, 0, 0))
        assert stems(output) == AFTER
        assert DeltaTable(output / "features").version() == 1


@pytest.mark.parametrize("table", ["errors", "features"])
def test_a_commit_that_cannot_be_written_is_one_clear_line(
    second_night, tmp_path, monkeypatch, table
):
    """The limit on file sizes makes the real commit's own write fail."""
    before = read_features(tmp_path / "out")
    real = Table.commit

    def commit(this, commit):
        if this.name != table:
            return real(this, commit)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            return real(this, commit)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(Table, "commit", commit)
    words = (
        rf"cannot commit to .*/{table}: .*File too large.* "
        r"Nothing was published there\. Run the same command again"
    )
    with pytest.raises(RunFailed, match=words):
        second_night()
    assert read_features(tmp_path / "out").equals(before)
    monkeypatch.undo()
    assert second_night().published
    assert stems(tmp_path / "out") == AFTER
    assert (
        DeltaTable(tmp_path / "out/features").version()
        == DeltaTable(tmp_path / "out/errors").version()
        == 1
    )


def after_the_plan(monkeypatch, action):
    """Run an action once, when the plan is made and no image has been read."""
    real = pipeline.steps.extract.extract_shards

    def extract_shards(*arguments):
        monkeypatch.setattr(pipeline.steps.extract, "extract_shards", real)
        action()
        real(*arguments)

    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", extract_shards)


def test_images_that_change_or_vanish_after_the_plan_are_rows_and_the_next_night_heals(
    second_night, folder, tmp_path, monkeypatch
):
    def meanwhile():
        (folder / "more/cell.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
        (folder / "more/page.jpg").unlink()

    after_the_plan(monkeypatch, meanwhile)
    summary = second_night()
    assert summary.balanced
    assert summary.failures_by_kind == {"not_an_image": 1, "changed": 1, "not_found": 1}
    assert {Path(e["uri"]).stem: e["kind"] for e in read_errors(tmp_path / "out")} == {
        "broken": "not_an_image", "cell": "changed", "page": "not_found"}  # fmt: skip
    run_with_repair = second_night()
    assert (
        run_with_repair.changed,
        run_with_repair.reused,
        run_with_repair.removed,
        run_with_repair.still_failed,
    ) == (1, 1, 1, 1)
    assert stems(tmp_path / "out") == [stem for stem in AFTER if stem != "page"]
    assert [Path(e["uri"]).stem for e in read_errors(tmp_path / "out")] == ["broken"]


def test_a_known_image_that_changes_after_the_plan_is_in_the_errors_until_the_next_night(
    folder, run, tmp_path, photos
):
    """Its old vector does not belong to the new file, so it is deleted."""
    run(folder)
    (folder / "chelsea.jpg").write_bytes((folder / "rocket.jpg").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        after_the_plan(
            patch,
            lambda: (folder / "chelsea.jpg").write_bytes((folder / "camera.jpg").read_bytes()),
        )
        assert run(folder, max_failure_rate=1).failures_by_kind == {"changed": 1}
    assert "chelsea" not in stems(tmp_path / "out")
    assert run(folder).changed == 1
    assert "chelsea" in stems(tmp_path / "out")
    assert read_errors(tmp_path / "out") == []


@pytest.fixture
def credentials(s3_endpoint):
    """Return a function that lets the server refuse our credentials after some requests.

    The server asks for credentials from then on, and does not know ours, as if they had expired.
    """

    def last_for(requests):
        url, kind = f"{s3_endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        call = urllib.request.Request(url, str(requests).encode(), kind, method="POST")
        urllib.request.urlopen(call, timeout=30).close()

    yield last_for
    last_for("inf")


def test_credentials_that_expire_while_reading_refuse_the_night_and_new_ones_finish_it(
    s3, folder, run, tmp_path, credentials, monkeypatch
):
    for path in folder.iterdir():
        s3.put(f"photos/{path.name}", path.read_bytes())
    after_the_plan(monkeypatch, lambda: credentials(2))
    with pytest.raises(Refused, match=r"4 of 6 images failed \(permission_denied 4\)"):
        run(f"{s3.url}/photos")
    assert not (tmp_path / "out/features/_delta_log").exists()
    credentials("inf")
    assert run(f"{s3.url}/photos").embedded == 6
    assert len(stems(tmp_path / "out")) == 6


def test_credentials_that_expire_while_writing_break_the_run_off_and_new_ones_finish_it(
    s3, folder, run, credentials, monkeypatch
):
    from transforms.storage import open_storage

    after_the_plan(monkeypatch, lambda: credentials(4))
    with pytest.raises(
        RunFailed, match=r"failed: .*(denied|refused|credentials).*Run the same command again"
    ) as error:
        run(folder, f"{s3.url}/out", shard_size=2)
    assert "\n" not in str(error.value)
    credentials("inf")
    assert not [key for key in sorted(s3.keys()) if "_delta_log" in key]
    assert run(folder, f"{s3.url}/out", shard_size=2).embedded == 6
    url = f"{s3.url}/out/features"
    assert (
        len(
            DeltaTable(url, storage_options=open_storage(url).delta_options).to_pyarrow_table(
                columns=["uri"]
            )
        )
        == 6
    )
