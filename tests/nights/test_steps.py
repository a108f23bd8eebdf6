"""Run plan, extract and publish as three commands; check what ``status`` says between them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable

from pipeline.cli import main
from pipeline.reports.progress import Progress
from pipeline.reports.status import WINDOW, Done, rate
from pipeline.state.run import load_runs
from tests.helpers.runs import make_folder, read_features
from transforms.parts.write import Receipt, encode_receipt
from transforms.storage import open_storage


@pytest.fixture
def command(folder, tmp_path, capsys):
    """Run a command on the test's folder and output: exit code, output, last line of error."""
    output = str(tmp_path / "out")
    options = ["--input", str(folder), "--output", output, "--shard-size", "2"]

    def start(name, *words):
        places = {"extract": options, "plan": options}.get(name, [output])
        code = main([name, *places, *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, (captured.err.splitlines() or [""])[-1]

    return start


def published(output):
    return (output / "features/_delta_log").exists()


def newest(output):
    return load_runs(open_storage(str(output)), limit=1)[0]


def test_three_commands_make_the_table_of_one(command, tmp_path, run, folder):
    assert command("status")[0] == 2
    code, out, _ = command("plan")
    assert code == 0
    run_id = newest(tmp_path / "out").run_id
    assert f"planned run {run_id}; next: 'image-features extract --planned'" in out
    assert not list(tmp_path.glob("out/runs/*/receipts/*"))
    code, _, error = command("publish")
    assert (code, "3 of the 3 shards of run" in error, "not done yet" in error) == (1, True, True)
    out = command("status")[1]
    assert "0 / 3 shards, 0 / 6 images, 0 failed" in out
    assert "no receipt yet" in out
    code, out, _ = command("extract", "--planned")
    assert code == 0
    assert "embedded 6, reused 0, failed 0" in out
    assert "all shards are done; next: 'image-features publish " in out
    assert not published(tmp_path / "out")
    assert "3 / 3 shards, 6 / 6 images" in command("status")[1]
    code, out, _ = command("publish")
    assert (code, "published version 0" in out) == (0, True)
    assert newest(tmp_path / "out").run_id == run_id
    assert f"run {run_id}: published" in command("status")[1]
    run(folder, tmp_path / "at-once")
    kept = ["uri", "etag", "label", "embedding"]
    assert (
        read_features(tmp_path / "out")
        .select(kept)
        .equals(read_features(tmp_path / "at-once").select(kept))
    )


def test_steps_that_find_nothing_to_do_are_no_failure_and_change_nothing(command, tmp_path):
    command("extract")
    for name, *words in (["plan"], ["extract", "--planned"], ["publish"]):
        metrics = tmp_path / f"{name}.jsonl"
        code, out, _ = command(name, *words, "--metrics-json", metrics)
        assert (code, out.splitlines()[-1]) == (0, "nothing new: nothing was published")
        assert json.loads(metrics.read_text())["state"] == "unchanged"
    assert DeltaTable(tmp_path / "out/features").version() == 0
    # The runs of the extract and of the plan.
    assert len(load_runs(open_storage(str(tmp_path / "out")), limit=9)) == 2


def test_extract_finishes_what_plan_began(command, tmp_path):
    command("plan")
    code, out, _ = command("extract")
    assert (code, "published version 0" in out) == (0, True)
    assert len(load_runs(open_storage(str(tmp_path / "out")), limit=9)) == 1


def test_a_plan_with_other_options_is_refused_by_name_and_left_alone(command, tmp_path, folder):
    command("plan")
    more = tmp_path / "more"
    code, _, error = command(
        "extract", "--planned", "--input", more, "--resize", "crop", "--retry-failed"
    )
    assert code == 1
    assert (
        f"--input: {folder} → {folder} {more}; resize: squash → crop; resize_kernel: "
        "bilinear-antialias-8bit → bilinear-antialias-8bit-whole-pixels; "
        "--retry-failed: False → True" in error
    )
    assert newest(tmp_path / "out").state == "planned"
    # Without --planned it makes another plan.
    assert command("extract", "--retry-failed")[0] == 0
    first, second = reversed(load_runs(open_storage(str(tmp_path / "out")), limit=9))
    assert (first.state, second.state) == ("superseded", "published")


def test_a_plan_that_the_tables_have_left_behind_is_refused(command, tmp_path, folder, photos, run):
    command("extract")
    make_folder(folder / "more", photos, "cell")
    command("plan")
    note = tmp_path / "out/runs" / newest(tmp_path / "out").run_id / "run.json"
    planned = note.read_text()
    # With other options this supersedes the plan and publishes.
    run([folder, folder / "more"], keep_removed=True)
    newer = tmp_path / "out/runs" / newest(tmp_path / "out").run_id / "run.json"
    newer.unlink()
    # Restore the plan, as if both had run at once.
    note.write_text(planned)
    for name, *words in (["publish"], ["extract", "--planned"]):
        code, _, error = command(name, *words)
        assert (code, "the tables have changed since run" in error) == (1, True)
    assert DeltaTable(tmp_path / "out/features").version() == 1


def test_publish_refuses_as_extract_does_and_takes_the_rate_of_the_plan(command, tmp_path, folder):
    (folder / "broken.jpg").write_bytes(b"not an image")
    command("plan", "--max-failure-rate", "0.05")
    command("extract", "--planned")
    assert "failed: not_an_image 1" in command("status")[1]
    code, _, error = command("publish")
    assert (
        code,
        "1 of 7 images failed (not_an_image 1), more than --max-failure-rate 0.05" in error,
    ) == (1, True)
    for name, *words in (["publish"], ["extract", "--planned"]):
        code, _, error = command(name, *words)
        assert (code, "was refused; nothing was done. Plan again." in error) == (1, True)
    command("plan")
    command("extract", "--planned")
    assert command("publish", "--max-failure-rate", "0.5")[0] == 0
    assert read_features(tmp_path / "out").num_rows == 6


def test_a_part_that_is_gone_before_publish_is_a_shard_to_do_again(command, tmp_path):
    command("plan")
    command("extract", "--planned")
    next((tmp_path / "out/features").glob("part-*")).unlink()
    code, _, error = command("publish")
    assert (code, "1 of the 3 shards" in error) == (1, True)
    command("extract", "--planned")
    assert command("publish")[0] == 0
    assert read_features(tmp_path / "out").num_rows == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["extract", "--no-wait"],
            "--no-wait: the jobs of this runner end with the command that started them",
        ),
        (
            ["extract", "--planned", "--dry-run"],
            "--planned extracts what was planned, and --dry-run only plans",
        ),
        (["extract", "--no_wait_until_finish"], "give --no-wait"),
        (["plan", "--planned"], "unknown option --planned"),
        (["extract", "--planned"], "'image-features plan' or 'extract' comes first"),
        (["publish"], "'image-features plan' or 'extract' comes first"),
        (["publish", "--max-failure-rate", "2"], "'2': a share from 0 to 1"),
    ],
)
def test_a_mistake_is_one_line(words, message, command, tmp_path):
    code, _, error = command(*words)
    assert (code, message in error) == (2, True), error
    assert not (tmp_path / "out").exists()


def test_the_rate_is_that_of_the_last_while():
    now = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)

    def shard(minutes_ago):
        return Done(Receipt("s", 90, None, (), 0, {}), now - timedelta(minutes=minutes_ago))

    minutes = WINDOW.total_seconds() / 60
    long_ago = now - timedelta(days=1)
    assert rate([], long_ago, now) == 0
    # No shard was finished lately: no rate, and no time left.
    assert rate([shard(minutes + 1)], long_ago, now) == 0
    assert rate([shard(600), shard(10), shard(1)], long_ago, now) == pytest.approx(
        180 / 60 / minutes
    )
    assert rate([shard(2), shard(1)], now - timedelta(minutes=3), now) == pytest.approx(1)


def test_progress_counts_all_receipts_but_does_not_hold_up_the_end_of_a_run(
    command, tmp_path, monkeypatch
):
    """Of a large run some may be unread when the job ends: nobody waits for their count."""
    monkeypatch.setattr("pipeline.reports.progress._PIECE", 2)
    command("plan")
    run, output = newest(tmp_path / "out"), open_storage(str(tmp_path / "out"))
    for number in range(3):
        receipt = Receipt(f"shard-{number:05d}", 2, None, (), 0, {})
        output.write(f"{run.folder}/receipts/{receipt.shard}.json", encode_receipt(receipt))
    with Progress([run], output) as before:
        assert before.line().startswith("6 / 6 images")
    ended = Progress([run], output)
    ended._stop.set()
    ended._count()
    assert ended.line().startswith("4 / 6 images")
