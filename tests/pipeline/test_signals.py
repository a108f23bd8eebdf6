"""SIGTERM and Ctrl-C end the command in seconds, say how to resume, and leave no process."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from tests.helpers.clusters import until
from tests.helpers.processes import alive, command_line, descendants, start_environment
from tests.helpers.runs import read_features


@pytest.fixture
def many(tmp_path, photos):
    """Return a folder of 200 different images, which take seconds."""
    folder = tmp_path / "many"
    folder.mkdir()
    with Image.open(photos / "coffee.png") as image:
        for number in range(200):
            image.crop((number, 0, number + 400, 400)).save(folder / f"{number:03d}.bmp")
    return folder


def start(folder, output, *more):
    words = ["extract", "--input", folder, "--output", output, "--shard-size", "50", *more]
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GRPC_")
    }
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(process, text):
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"it ended before it said {text!r}")


def wait_for_workers(process, count):
    while sum("sdk_worker_main" in command_line(pid) for pid in descendants(process.pid)) < count:
        assert process.poll() is None, "it ended before it had workers"
        time.sleep(0.05)


LOCAL = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "options"),
    [(signal.SIGTERM, 143, ()), (signal.SIGINT, 130, ()), (signal.SIGTERM, 143, LOCAL)],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM with worker processes"],
)
def test_a_signal_ends_the_run_in_seconds_and_the_same_command_finishes_it(
    many, tmp_path, number, code, options
):
    output, metrics = tmp_path / "out", tmp_path / "metrics.jsonl"
    words = ("--metrics-json", metrics, *options)
    process = start(many, output, *words)
    wait_for(process, "200 images in")
    if options:
        wait_for_workers(process, 2)
    workers = descendants(process.pid)
    assert bool(workers) == bool(options)
    for said in ("GRPC_VERBOSITY=ERROR", "GRPC_ENABLE_FORK_SUPPORT=false"):
        # A process that was forked a moment ago has its parent's environment until it calls exec.
        until(lambda said=said: all(said in start_environment(p) for p in workers if alive(p)))
    os.kill(process.pid, number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    reason = f"stopped by {number.name}"
    how = "Run the same command again: it resumes the run."
    # Worker processes may print lines of their own after it.
    lines = error.splitlines() if options else error.splitlines()[-1:]
    assert f"image-features: {reason}; the published tables are whole. {how}" in lines, error
    # The source file that gRPC's note on worker processes names; gRPC does not always print it.
    assert "fork_posix" not in error
    until(lambda: not any(alive(pid) for pid in workers))
    [line] = map(json.loads, metrics.read_text().splitlines())
    assert (line["state"], line["error"], line["listed"], line["todo"]) == (
        "stopped",
        reason,
        200,
        200,
    )
    assert not (output / "features/_delta_log").exists()
    if number == signal.SIGTERM and not options:
        out, error = start(many, output).communicate(timeout=200)
        assert "resuming run" in error
        assert "embedded 200, reused 0, failed 0" in out
        assert read_features(output).num_rows == 200


@pytest.mark.slow
def test_a_worker_process_that_is_killed_ends_the_run_at_once_and_the_others_with_it(
    many, tmp_path
):
    """Test that the run does not wait for ``--stall-timeout``, which is one hour."""
    process = start(many, tmp_path / "out", *LOCAL)
    wait_for(process, "200 images in")
    wait_for_workers(process, 2)
    workers = [pid for pid in descendants(process.pid) if "sdk_worker_main" in command_line(pid)]
    os.kill(workers[-1], signal.SIGKILL)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    last = error.splitlines()[-1]
    assert (
        "failed: a worker process was ended by SIGKILL, as when memory runs out: fewer "
        "--direct_num_w" in last
    )
    assert last.endswith("Nothing was published. Run the same command again: it resumes the run.")
    assert "Traceback" not in error
    until(lambda: not any(alive(pid) for pid in workers))


def test_a_process_that_started_late_ends_with_the_command():
    """It would hold the standard streams, and whoever reads them would wait for ever."""
    code = (
        "import subprocess, pipeline.cli as cli\n"
        "def main(**_):\n"
        "    print(subprocess.Popen(['sleep', '1000']).pid, flush=True)\n"
        "    return 1\n"
        "cli.main = main\n"
        "cli.command()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=100)
    assert done.returncode == 1
    # A process that was killed closes its streams a moment before it has ended.
    until(lambda: not alive(int(done.stdout)))
