"""Run on Prism with Beam's own worker processes, from launch/prism.args, as on a cluster.

Needs both programs, which ``make engines`` builds with Go.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import apache_beam
import pytest

from tests.helpers.clusters import (
    ROOT,
    SHARDS,
    environment,
    extract,
    finish,
    receipts,
    same_table,
    until,
)
from tests.helpers.processes import alive, command_line, descendants

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="session")
def _programs():
    """Skip without Go; fail without it where the project is checked."""
    path = f"{ROOT / '.venv/bin'}:{environment()['PATH']}"
    if all(shutil.which(name, path=path) for name in ("prism", "boot")):
        return
    say = pytest.fail if os.environ.get("CI") else pytest.skip
    say("Prism and Beam's boot are not built: install Go (https://go.dev) and run 'make engines'")


def test_the_programs_are_of_the_beam_that_is_installed():
    assert f"BEAM := v{apache_beam.__version__}\n" in (ROOT / "Makefile").read_text()


def workers(pid):
    """Return the processes below ``pid`` in which our code runs."""
    return {child for child in descendants(pid) if "sdk_worker_main" in command_line(child)}


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """Make workers start with a Python without this package; return the words for it."""
    folder = tmp_path_factory.mktemp("bare")
    # Their .pth files are not read, so that editable installs are missing.
    below = [path for path in sys.path if path.endswith("site-packages")]
    return place_of_workers(folder, below)


def place_of_workers(folder, packages):
    """Copy launch/ beside a Python that has the packages of those folders."""
    shutil.copytree(ROOT / "launch", folder / "launch")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    for name in ("boot", "prism"):
        (folder / ".venv/bin" / name).symlink_to(
            shutil.which(name, path=f"{ROOT}/.venv/bin:{environment()['PATH']}")
        )
    [own] = (folder / ".venv/lib").glob("python*/site-packages")
    (own / "below.pth").write_text("\n".join(packages))
    boot = f'--environment_config={{"command": "{folder}/launch/boot.py"}}'
    return "@launch/prism.args", f"--prism_location={folder}/launch/prism.py", boot


def test_prism_makes_the_same_table_in_workers_that_get_the_package_staged(
    bare, two_hundred, expected, tmp_path
):
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "tests", "*.egg-info")
    )
    finish(extract(two_hundred, tmp_path / "out", *bare, f"--setup_file={source}/setup.py"))
    assert same_table(tmp_path / "out", expected)


def test_workers_that_lack_the_package_end_the_run_with_one_line(bare, two_hundred, tmp_path):
    run = extract(two_hundred, tmp_path, *bare, "--stall-timeout", 30)
    out, error = run.communicate(timeout=100)
    assert (run.returncode, out) == (1, "")
    [line] = error.splitlines()
    assert line.startswith(
        "image-features: the listing failed: ModuleNotFoundError: No module named"
    )


def test_a_worker_that_dies_at_its_start_stalls_the_run(two_hundred, tmp_path):
    """Without Beam in its Python the worker cannot even report, and the job stays at RUNNING."""
    run = extract(
        two_hundred, tmp_path, *place_of_workers(tmp_path / "place", []), "--stall-timeout", 5
    )
    out, error = run.communicate(timeout=100)
    assert (run.returncode, out) == (1, "")
    [line] = error.splitlines()
    assert line.startswith("image-features: the listing stalled: ")


def test_after_a_killed_worker_and_a_killed_driver_prism_makes_the_same_table(
    two_hundred, expected, tmp_path
):
    run = extract(two_hundred, tmp_path, "@launch/prism.args")
    listing: set[int] = set()
    until(lambda: listing.update(workers(run.pid)) or any(tmp_path.glob("runs/*/plan/*.parquet")))
    assert listing
    until(lambda: receipts(tmp_path))
    extraction = workers(run.pid)
    # Another job starts new processes, which set themselves up again.
    assert extraction - listing == extraction != set()
    for worker in extraction:
        os.kill(worker, signal.SIGKILL)
    out, error = run.communicate(timeout=100)
    assert (run.returncode, out) == (1, "")
    line = error.splitlines()[-1]
    assert line.startswith("image-features: run ")
    assert "SDK worker disconnected" in line
    assert line.endswith("Run the same command again: it resumes the run.")
    before = receipts(tmp_path)
    assert 0 < before < SHARDS

    run = extract(two_hundred, tmp_path, "@launch/prism.args")
    until(lambda: receipts(tmp_path) > before)
    left = descendants(run.pid)
    assert workers(run.pid)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    until(lambda: not any(alive(pid) for pid in left))
    assert receipts(tmp_path) < SHARDS

    out, error = finish(extract(two_hundred, tmp_path, "@launch/prism.args"))
    assert "resuming run" in error
    assert "embedded 200, reused 0, failed 0" in out
    assert same_table(tmp_path, expected)
