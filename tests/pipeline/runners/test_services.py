"""A cluster that does not answer, or is not installed, is named before anything is planned."""

import socket
import subprocess
import sys

import pytest

from pipeline.cli import main
from pipeline.runners.version import versions

DASK = "--runner=apache_beam.runners.dask.dask_runner.DaskRunner"


@pytest.fixture
def words(folder, tmp_path):
    return ["extract", "--input", str(folder), "--output", str(tmp_path / "out"), DASK]


@pytest.fixture
def closed_port():
    """Return a port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_scheduler_that_does_not_answer_is_named(words, closed_port, tmp_path, capsys):
    address = f"tcp://127.0.0.1:{closed_port}"
    words += [f"--dask_client_address={address}", "--dask_connection_timeout=0"]
    assert main(words) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert f"no Dask scheduler answers at {address} (--dask_client_address)" in line
    assert "refused" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--dask_client_address=scheduler", "write tcp://HOST:PORT"),
        ("--dask_client_address=tcp://127.0.0.1:99999", "no Dask scheduler answers"),
        ("--dask_scheduler_file=/none.json", "there is no such file"),
    ],
)
def test_an_address_that_cannot_be_right_is_named(option, message, words, tmp_path, capsys):
    assert main([*words, option]) in (1, 2)
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert option.partition("=")[0] in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "missing", "extra"),
    [
        ([DASK], "dask", "dask"),
        (
            ["--runner=DataflowRunner", f"--sdk_container_image=image:{versions()}"],
            "google.auth",
            "gcp",
        ),
    ],
)
def test_a_missing_extra_is_named(options, missing, extra, words, tmp_path):
    """Test in a process of its own, where the package cannot be imported."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words[:-1], *options],
        capture_output=True,
        text=True,
        timeout=100,
    )
    [line] = done.stderr.splitlines()
    assert "pip install 'apache-beam[" + extra in line
    assert done.returncode == 2
    assert not (tmp_path / "out" / "runs").exists()
