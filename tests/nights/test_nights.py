"""Later nights: changed images are done again, missing ones removed, the rest stays bit by bit."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.state.run import load_runs
from tests.helpers.outputs import break_off
from tests.helpers.runs import make_folder, names, read_errors, read_features, without
from transforms.errors import Refused, UserError
from transforms.records import features_schema
from transforms.storage import open_storage


@pytest.fixture
def no_workers(monkeypatch):
    """Return a function after whose call a run that starts the extract stage fails."""

    def forbid():
        monkeypatch.setattr(
            "pipeline.steps.extract.extract_shards",
            lambda *_: pytest.fail("the extract stage was started"),
        )

    return forbid


def parts(output):
    return {Path(file).name for file in DeltaTable(output / "features").file_uris()}


def test_a_removed_image_leaves_by_rewriting_its_part_alone(folder, run, tmp_path, no_workers):
    output = tmp_path / "out"
    run(folder, shard_size=2)
    before, old = read_features(output), parts(output)
    (folder / "chelsea.jpg").unlink()
    no_workers()
    summary = run(folder, shard_size=2)
    assert str(summary) == (
        "listed 5 = new 0 + changed 0 + unchanged 5 + retried 0; removed 1; embedded 0, reused 0, "
        "failed 0"
    )
    assert summary.published
    after = read_features(output)
    assert after.equals(without(before, "chelsea.jpg"))
    assert after.schema.remove_metadata().equals(features_schema(1280))
    assert len(parts(output) & old) == 2
    assert len(parts(output) - old) == 1
    assert DeltaTable(output / "features").version() == 1


def test_one_commit_takes_the_removed_out_and_puts_the_new_in(folder, run, tmp_path, photos):
    run(folder)
    (folder / "chelsea.jpg").unlink()
    make_folder(folder / "more", photos, "cell")
    summary = run(folder)
    assert (summary.new, summary.unchanged, summary.removed, summary.embedded) == (1, 5, 1, 1)
    assert DeltaTable(tmp_path / "out/features").version() == 1
    left = "astronaut camera cell coffee motorcycle_left rocket"
    assert sorted(names(tmp_path / "out")) == [f"{name}.jpg" for name in left.split()]


def test_the_failure_of_an_image_that_is_gone_leaves_too(folder, run, tmp_path, no_workers):
    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, max_failure_rate=1)
    (folder / "broken.jpg").unlink()
    no_workers()
    summary = run(folder)
    assert (summary.removed, summary.still_failed, summary.published) == (1, 0, True)
    assert read_errors(tmp_path / "out") == []
    assert not run(folder).published


def test_keep_removed_keeps_rows_and_failures(folder, run, tmp_path, no_workers):
    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, max_failure_rate=1)
    before = read_features(tmp_path / "out")
    for name in ("broken", "chelsea", "coffee", "camera"):
        (folder / f"{name}.jpg").unlink()
    no_workers()
    summary = run(folder, keep_removed=True)
    assert (summary.listed, summary.unchanged, summary.removed, summary.kept) == (3, 3, 0, 4)
    assert "removed 0, kept 4" in str(summary)
    assert not summary.published
    assert read_features(tmp_path / "out").equals(before)
    assert len(read_errors(tmp_path / "out")) == 1


def test_kept_rows_are_counted_when_something_is_published(folder, run, tmp_path, photos):
    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, max_failure_rate=1)
    (folder / "broken.jpg").unlink()
    (folder / "chelsea.jpg").unlink()
    make_folder(folder / "more", photos, "cell")
    assert run(folder, keep_removed=True).published
    assert len(names(tmp_path / "out")) == 7
    assert len(read_errors(tmp_path / "out")) == 1


def test_too_many_removed_are_refused_with_how_to_insist(folder, run, tmp_path):
    run(folder)
    for name in ("chelsea", "coffee"):
        (folder / f"{name}.jpg").unlink()
    words = (
        r"2 of the 6 images in .*out are not listed any more, more than "
        r"--max-removed-rate 0\.2 allows\. Nothing was published"
    )
    with pytest.raises(Refused, match=words) as error:
        run(folder)
    assert "--keep-removed to keep" in str(error.value)
    assert "--max-removed-rate 1 to remove them" in str(error.value)
    assert DeltaTable(tmp_path / "out/features").version() == 0
    [latest, _] = load_runs(open_storage(str(tmp_path / "out")), limit=9)
    assert latest.state == "refused"
    assert run(folder, max_removed_rate=0.34).removed == 2
    assert len(names(tmp_path / "out")) == 4


def test_a_dry_run_refuses_what_the_run_would_refuse_and_writes_nothing(folder, run, tmp_path):
    run(folder)
    runs = sorted((tmp_path / "out/runs").iterdir())
    for name in ("chelsea", "coffee"):
        (folder / f"{name}.jpg").unlink()
    with pytest.raises(Refused, match="not listed any more"):
        run(folder, dry_run=True)
    assert run(folder, dry_run=True, max_removed_rate=1).removed == 2
    assert sorted((tmp_path / "out/runs").iterdir()) == runs


def test_a_night_with_fewer_inputs_does_not_remove_what_only_the_others_hold(
    folder, run, tmp_path, photos
):
    """One image of seven is within the rate, and still the inputs do not say that it is gone."""
    other = make_folder(tmp_path / "other", photos, "cell")
    run([folder, other])
    with pytest.raises(
        Refused,
        match=r"1 of the 7 images in .* any more; the run before had --input .*/other too\. ",
    ):
        run(folder)
    assert not run(folder, keep_removed=True).published
    # The kept rows still come from there.
    with pytest.raises(Refused, match="/other too"):
        run(folder)
    assert run(folder, max_removed_rate=1).removed == 1
    assert len(names(tmp_path / "out")) == 6
    (folder / "chelsea.jpg").unlink()
    # Now the inputs are those of the table.
    assert run(folder).removed == 1


def test_rebuild_removes_no_more_than_any_night(folder, run, tmp_path):
    run(folder)
    for name in ("chelsea", "coffee"):
        (folder / f"{name}.jpg").unlink()
    with pytest.raises(Refused, match="2 of the 6 images"):
        run(folder, rebuild=True)
    assert run(folder, rebuild=True, max_removed_rate=1).embedded == 4
    assert len(names(tmp_path / "out")) == 4
    with pytest.raises(UserError, match="--rebuild replaces the whole table"):
        run(folder, rebuild=True, keep_removed=True)


@pytest.mark.parametrize("options", [{}, {"max_removed_rate": 1}, {"keep_removed": True}])
def test_an_empty_listing_removes_nothing_whatever_was_said(folder, run, tmp_path, options):
    run(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(
        UserError, match=r"no image in .*keeps its 6 rows; if .* really gone, delete the output$"
    ):
        run(folder, **options)
    assert len(names(tmp_path / "out")) == 6


def test_retry_failed_tries_again_what_cannot_have_changed(folder, run, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, max_failure_rate=1)
    [first] = read_errors(tmp_path / "out")
    summary = run(folder, max_failure_rate=1, retry_failed=True)
    assert str(summary) == (
        "listed 7 = new 0 + changed 0 + unchanged 6 + retried 1; removed 0; embedded 0, reused 0, "
        "failed 1"
    )
    assert read_errors(tmp_path / "out") == [{**first, "attempts": 2, "run_id": summary.run_id}]


def test_a_transient_failure_is_tried_again_and_leaves_the_errors(folder, run, tmp_path):
    listed = tmp_path / "names.txt"
    listed.write_text(f"{folder}/chelsea.jpg\n{folder}/late.jpg\n")
    first = run(f"list:{listed}", max_failure_rate=1)
    assert first.failures_by_kind == {"not_found": 1}
    again = run(f"list:{listed}", max_failure_rate=1)
    assert (again.retried, again.failed, again.still_failed) == (1, 1, 0)
    assert read_errors(tmp_path / "out")[0]["attempts"] == 2
    (folder / "late.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    run_with_repair = run(f"list:{listed}")
    assert (run_with_repair.failed, run_with_repair.embedded) == (0, 1)
    assert read_errors(tmp_path / "out") == []


def test_an_image_that_fails_every_night_stops_none(folder, run, tmp_path):
    """A quiet night tries only a line of a list whose file is gone, which was accepted before."""
    listed = tmp_path / "names.txt"
    names = [f"{folder}/{name}.jpg\n" for name in ("chelsea", "coffee", "gone")]
    listed.write_text("".join(names))
    run(f"list:{listed}", max_failure_rate=0.5)
    quiet = run(f"list:{listed}")
    assert (quiet.published, quiet.retried, quiet.failures_by_kind) == (True, 1, {"not_found": 1})
    assert read_errors(tmp_path / "out")[0]["attempts"] == 2
    listed.write_text("".join([*names, f"{folder}/gone-too.jpg\n"]))
    with pytest.raises(
        Refused,
        match=r"1 of 1 images failed \(not_found 1\), and 1 as before, more than --max-fail",
    ):
        run(f"list:{listed}")


def test_a_night_without_change_starts_no_workers_and_leaves_a_note(
    folder, run, tmp_path, no_workers
):
    run(folder)
    no_workers()
    summary = run(folder)
    assert not summary.published
    assert (
        DeltaTable(tmp_path / "out/features").version()
        == DeltaTable(tmp_path / "out/errors").version()
        == 0
    )
    [latest, _] = load_runs(open_storage(str(tmp_path / "out")), limit=9)
    assert (latest.state, latest.run_id, latest.summary["unchanged"]) == (
        "unchanged",
        summary.run_id,
        6,
    )
    assert [
        path.name for path in (tmp_path / "out/runs" / summary.run_id).rglob("*") if path.is_file()
    ] == ["run.json"]


def test_a_night_with_a_clock_six_months_ahead_does_not_stay_the_newest(
    night, own_images, tmp_path, monkeypatch
):
    """Runs sort in their real order: the next ones are resumed, shown first, asked for inputs."""
    output = tmp_path / "out"
    night()
    [run] = load_runs(open_storage(str(output)), limit=9)
    ahead = datetime.now(UTC) + timedelta(days=180)
    future = f"{ahead:%Y%m%dT%H%M%S}.999Z-aaaa"
    text = (output / run.folder / "run.json").read_text().replace(run.run_id, future)
    dropped = text.replace(
        json.dumps(str(own_images)), f'{json.dumps(str(own_images))}, "/dropped"'
    )
    (output / "runs" / future).mkdir()
    (output / "runs" / future / "run.json").write_text(dropped)
    (own_images / "coffee.jpg").unlink()
    # With consent.
    night(max_removed_rate=1)
    (own_images / "camera.jpg").unlink()
    break_off(night, monkeypatch)
    broken_off = load_runs(open_storage(str(output)), limit=1)[0]
    assert broken_off.state == "planned"
    assert night().run_id == broken_off.run_id
    newest = [found.run_id for found in load_runs(open_storage(str(output)), limit=3)]
    assert newest == [broken_off.run_id, newest[1], future]
