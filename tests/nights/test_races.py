"""Check work done twice and two concurrent runs: never a mixture, and no lock to be left behind."""

import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import DeltaTable

import pipeline.steps.extract
import pipeline.tables.table
import transforms.extract
import transforms.work
from pipeline.cli import main
from pipeline.state.run import load_runs
from pipeline.tables import Table, Tables
from pipeline.tables.commit import Commit
from tests.helpers.runs import make_folder, read_errors, read_features
from transforms.errors import Refused
from transforms.storage import open_storage


def stems(output):
    return [Path(uri).stem for uri in read_features(output)["uri"].to_pylist()]


def by_itself(table):
    """Drop the times and the ids of runs."""
    return table.drop_columns(["run_id", "extracted_at"])


def test_a_shard_done_twice_at_once_by_threads_changes_nothing(folder, run, tmp_path, monkeypatch):
    """Both have written their part before either has a receipt."""
    run(folder, tmp_path / "alone")
    both_wrote = threading.Barrier(2)
    real = transforms.work.write_part

    def write_together(*arguments):
        part = real(*arguments)
        both_wrote.wait(timeout=60)
        return part

    def twice(shards, job, _):
        with ThreadPoolExecutor(2) as pool:
            receipts = list(
                pool.map(
                    lambda shard: transforms.extract.extract_shard(shard, job), [*shards, *shards]
                )
            )
        assert len(receipts) == 2
        # The seconds are equal too: the second one returns the receipt of the first.
        assert receipts[0] == receipts[1]

    monkeypatch.setattr(transforms.work, "write_part", write_together)
    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", twice)
    summary = run(folder)
    assert (summary.listed, summary.embedded) == (6, 6)
    assert by_itself(read_features(tmp_path / "out")).equals(
        by_itself(read_features(tmp_path / "alone"))
    )


def test_a_shard_done_twice_with_different_results_counts_once(folder, run, tmp_path, monkeypatch):
    """A file vanishes between two tries: the first receipt counts, with its own part."""

    def differently(shards, job, _):
        [shard] = shards
        output = open_storage(job.output)
        (folder / "chelsea.jpg").rename(tmp_path / "chelsea.jpg")
        transforms.extract.extract_shard(shard, job)
        (tmp_path / "chelsea.jpg").rename(folder / "chelsea.jpg")
        key = f"{job.run_folder}/receipts/{shard}.json"
        first = output.read(key)
        output.delete(key)
        transforms.extract.extract_shard(shard, job)
        # Put the first receipt back as if it had won: the second must not have touched its part.
        output.write(key, first)

    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", differently)
    summary = run(folder, max_failure_rate=0.5)
    assert (summary.embedded, summary.failures_by_kind) == (5, {"not_found": 1})
    assert "chelsea" not in stems(tmp_path / "out")
    assert len(list((tmp_path / "out/features").glob("part-*"))) == 2
    monkeypatch.undo()
    assert run(folder).retried == 1
    assert len(stems(tmp_path / "out")) == 6


@pytest.mark.slow
def test_shards_done_twice_at_once_by_processes_change_nothing(folder, run, tmp_path, monkeypatch):
    run(folder, tmp_path / "alone", shard_size=3)

    def twice(shards, job, _):
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            tasks = [(shard, job) for shard in shards]
            pool.starmap(
                transforms.extract.extract_shard, [*tasks, *reversed(tasks)], chunksize=len(tasks)
            )

    monkeypatch.setattr(pipeline.steps.extract, "extract_shards", twice)
    assert run(folder, shard_size=3).embedded == 6
    assert by_itself(read_features(tmp_path / "out")).equals(
        by_itself(read_features(tmp_path / "alone"))
    )


class Meanwhile:
    """Runs an action once, just before a table of the current run is committed."""

    def __init__(self, monkeypatch, table, action):
        real = Table.commit

        def commit(this, commit):
            if this.name == table and not self.happened:
                self.happened = True
                action()
            return real(this, commit)

        self.happened = False
        monkeypatch.setattr(Table, "commit", commit)


@pytest.fixture
def other(tmp_path, photos):
    return make_folder(tmp_path / "other", photos, "cell retina")


@pytest.mark.parametrize("night", ["first", "second"])
@pytest.mark.parametrize("table", ["errors", "features"])
def test_of_two_runs_at_once_one_publishes_and_the_other_says_so(
    folder, run, tmp_path, monkeypatch, other, photos, table, night
):
    """The other run starts and ends before this one's errors commit, or between its two commits."""
    output = tmp_path / "out"
    (folder / "broken.jpg").write_bytes(b"not an image")
    (other / "broken-too.jpg").write_bytes(b"not an image")
    if night == "second":
        run(folder, max_failure_rate=1)
        make_folder(folder / "more", photos, "page")
        (folder / "late.jpg").write_bytes(b"not an image")
    Meanwhile(monkeypatch, table, lambda: run([folder, other], max_failure_rate=1))
    words = (
        rf"another run published to .*/{table} in the meantime; this one published "
        r"nothing there\. Run the same command again\."
    )
    with pytest.raises(Refused, match=words):
        run(folder, max_failure_rate=1)
    images = {path.stem for place in (folder, other) for path in place.rglob("*.jpg")}
    broken = {stem for stem in images if stem in ("broken", "broken-too", "late")}
    assert sorted(stems(output)) == sorted(images - broken)
    assert {Path(error["uri"]).stem for error in read_errors(output)} == broken
    # Nothing is left to do.
    assert not run([folder, other]).published


def test_a_run_without_failures_does_not_slip_between_the_commits_of_another(
    folder, run, tmp_path, monkeypatch, other, photos
):
    """Its failures would be beside the features of this one.

    Both were planned from the same tables.
    """
    run(folder)
    make_folder(folder / "more", photos, "page")
    (other / "broken.jpg").write_bytes(b"not an image")
    between, done = threading.Event(), threading.Event()
    real, first = pipeline.tables.table.Table.commit, threading.current_thread()

    def commit(this, commit):
        if threading.current_thread() is first and not between.is_set():
            late.start()
            assert between.wait(timeout=100)
        elif threading.current_thread() is late and this.name == "features":
            between.set()
            assert done.wait(timeout=100)
        return real(this, commit)

    monkeypatch.setattr(pipeline.tables.table.Table, "commit", commit)
    late = threading.Thread(target=lambda: run([folder, other], max_failure_rate=1))
    with pytest.raises(Refused, match=r"another run published to .*/errors"):
        run(folder)
    done.set()
    late.join()
    assert len(stems(tmp_path / "out")) == 9
    assert [Path(error["uri"]).stem for error in read_errors(tmp_path / "out")] == ["broken"]


def test_the_same_command_twice_at_once_is_one_run(folder, run, tmp_path, monkeypatch, caplog):
    """The second start resumes the living first run and publishes it; the first finds it done."""
    (folder / "broken.jpg").write_bytes(b"not an image")
    summaries = []
    Meanwhile(monkeypatch, "errors", lambda: summaries.append(run(folder, max_failure_rate=1)))
    with caplog.at_level("INFO"):
        summaries.append(run(folder, max_failure_rate=1))
    assert "another process was at work on the same run" in caplog.text
    assert summaries[0] == summaries[1]
    assert len(stems(tmp_path / "out")) == 6
    assert [error["attempts"] for error in read_errors(tmp_path / "out")] == [1]
    assert (
        DeltaTable(tmp_path / "out/features").version()
        == DeltaTable(tmp_path / "out/errors").version()
        == 0
    )
    [only] = load_runs(open_storage(str(tmp_path / "out")), limit=9)
    assert only.state == "published"


def test_a_run_that_is_committed_is_not_committed_again(output):
    table = Tables.open(open_storage(str(output))).features
    run_id = load_runs(open_storage(str(output)), limit=1)[0].run_id
    assert table.commit(Commit(run_id, [], [])) == table.version == 1
    assert DeltaTable(output / "features").version() == 1


@pytest.mark.slow
def test_two_processes_at_once_leave_one_whole_table(folder, run, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    words = [
        "extract",
        "--input",
        str(folder),
        "--output",
        str(tmp_path / "out"),
        "--max-failure-rate",
        "1",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen([sys.executable, "-m", "pipeline.cli", *words], **pipes) for _ in range(2)
    ]
    ends = [(*process.communicate(timeout=200), process.returncode) for process in both]
    assert sorted(code for *_, code in ends) in ([0, 0], [0, 1]), ends
    for _, error, code in ends:
        assert code == 0 or "another run published" in error.splitlines()[-1], error
    assert len(stems(tmp_path / "out")) == len(set(stems(tmp_path / "out"))) == 6
    assert len(read_errors(tmp_path / "out")) == 1
    assert not run(folder).published
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_a_run_that_was_superseded_between_its_commits_is_healed(
    folder, run, tmp_path, monkeypatch, other
):
    """A run is killed after its errors commit; the next has other inputs: nothing of it stays."""
    (folder / "broken.jpg").write_bytes(b"not an image")
    run([folder, other], max_failure_rate=1)
    (folder / "broken.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    (folder / "chelsea.jpg").write_bytes(b"not an image any more")
    (folder / "camera.jpg").unlink()

    def die():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        Meanwhile(patch, "features", die)
        with pytest.raises(KeyboardInterrupt):
            run([folder, other], max_failure_rate=1)
    # The features are as before.
    assert len(stems(tmp_path / "out")) == 8
    summary = run([other, folder], max_failure_rate=1)
    assert summary.published
    assert sorted(stems(tmp_path / "out")) == sorted(
        ["astronaut", "coffee", "rocket", "motorcycle_left", "broken", "cell", "retina"]
    )
    assert [Path(error["uri"]).stem for error in read_errors(tmp_path / "out")] == ["chelsea"]
    states = [found.state for found in load_runs(open_storage(str(tmp_path / "out")), limit=9)]
    assert states == ["published", "superseded", "published"]
