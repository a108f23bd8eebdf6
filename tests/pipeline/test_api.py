"""The Python API: its public names, the effects of its import, and what its functions return."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import pipeline
from tests.helpers.outputs import FORTNIGHT


@pytest.mark.parametrize("name", pipeline.__all__)
def test_each_name_is_imported_on_first_use(name):
    value = getattr(pipeline, name)
    assert value.__name__ == name
    assert value.__module__.startswith(("pipeline.", "transforms."))


def test_importing_the_package_changes_neither_the_environment_nor_logging():
    code = (
        "import logging, os; before = dict(os.environ)\n"
        "import pipeline\n"
        "assert dict(os.environ) == before\n"
        "assert not logging.getLogger().filters\n"
        "assert not logging.getLogger().handlers\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_functions_return_numbers(output):
    place = str(output)
    [last, first] = pipeline.history(place).versions
    assert (last.number, last.change.rows) == (1, first.change.rows + last.change.added)
    contents = pipeline.show(place, 2)
    assert (contents.rows, contents.version) == (last.change.rows, 1)
    assert sum(contents.failures.values()) == 1
    assert [image.vector_length for image in contents.samples.images] == [1280, 1280]
    status = pipeline.status(place)
    assert (status.at_work, status.run.run_id) == (False, last.run_id)
    back = pipeline.rollback(place, 0)
    assert (back.restored, back.version, back.features_rows) == (0, 2, first.change.rows)
    freed = pipeline.vacuum(place, FORTNIGHT, dry_run=True)
    assert (freed.garbage, freed.size, freed.dry_run) == ((), 0, True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resize", "fp16 ", "--resize 'fp16 ': must be squash or crop"),
        ("engine", "torch", "--engine 'torch': must be auto or tensorflow or openvino"),
        ("precision", None, "--precision None: must be float32"),
        ("pooling", "mean", "--pooling 'mean': must be avg or max"),
        ("normalize", "L2", "--normalize 'L2': must be none or l2"),
        ("scores", "", "--scores '': must be softmax"),
        ("preprocess", "keras", "--preprocess 'keras': must be caffe"),
        ("shard_size", "10", "--shard-size '10': must be a whole number"),
        ("shard_size", True, "--shard-size True: must be a whole number"),
        ("top_k", 1.5, "--top-k 1.5: must be a whole number"),
        ("max_failure_rate", "0.1", "--max-failure-rate '0.1': must be a number"),
        ("stall_timeout", float("nan"), "--stall-timeout nan: must be a number"),
        ("inputs", "photos", "inputs 'photos': must be a tuple"),
        ("inputs", (1,), "inputs 1: must be text or a Path"),
        ("beam_args", "--runner=x", "beam_args '--runner=x': must be a tuple"),
        ("output", 3, "output 3: must be text or a Path"),
    ],
)
def test_each_value_is_checked_when_the_configuration_is_made(option, value, message):
    options = {"inputs": ("photos",), "output": "out", option: value}
    with pytest.raises(pipeline.UserError) as raised:
        pipeline.Config.of(**options)
    assert str(raised.value).startswith(message)


def test_paths_may_be_path_objects(folder, tmp_path):
    config = pipeline.Config.of(
        inputs=[folder], output=tmp_path / "out", metrics_json=tmp_path / "m.json", top_k=0
    )
    assert (config.inputs, config.output) == ((str(folder),), f"{tmp_path}/out")
    assert pipeline.extract(config).embedded == 6
    assert (tmp_path / "m.json").exists()
    assert pipeline.show(tmp_path / "out").rows == 6
    assert pipeline.verify(tmp_path / "out").clean


def test_a_failed_run_and_a_good_one_leave_nothing_behind(folder, tmp_path, run, monkeypatch):
    """The first run loads Beam and starts the pools of threads that all runs share."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    run(folder, tmp_path / "first")
    threads = threading.active_count()
    environment, place = dict(os.environ), Path.cwd()
    with pytest.raises(pipeline.Refused):
        run(folder, tmp_path / "failed", max_pixels=9)
    assert run(folder, tmp_path / "good").embedded == 6
    assert threading.active_count() <= threads
    assert not list(scratch.iterdir())
    assert (dict(os.environ), Path.cwd()) == (environment, place)


def test_progress_is_reported_to_the_callers_function(folder, tmp_path):
    seen = []
    config = pipeline.Config(inputs=(folder,), output=tmp_path / "out")
    pipeline.extract(config, on_progress=seen.append)
    assert seen[-1] == pipeline.Done(done=6, total=6, failed=0)


def test_a_broken_progress_function_does_not_stop_the_run(folder, tmp_path, caplog):
    calls = []

    def broken(done):
        calls.append(done)
        raise ZeroDivisionError

    config = pipeline.Config(inputs=(folder,), output=tmp_path / "out")
    assert pipeline.extract(config, on_progress=broken).published
    assert len(calls) == 1
    assert "on_progress failed" in caplog.text


def test_a_file_that_hides_our_package_is_named(tmp_path):
    (tmp_path / "transforms.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", "import pipeline"],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    last = done.stderr.splitlines()[-1]
    assert f"finds {tmp_path}/transforms.py first" in last
    assert "Rename that file" in last


def test_with_logging_on_nearly_all_lines_are_ours(folder, tmp_path):
    code = (
        "import logging, sys, pipeline\n"
        "logging.basicConfig(level=logging.INFO, format='%(name)s')\n"
        "pipeline.extract(pipeline.Config(inputs=(sys.argv[1],), output=sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    names = done.stderr.splitlines()
    assert "pipeline.steps.changes" in names
    assert not [name for name in names if name.startswith("apache_beam")]
