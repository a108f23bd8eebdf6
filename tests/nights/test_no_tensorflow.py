"""Workers without TensorFlow and Keras: the driver exports the network, and they extract."""

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from pipeline import BackboneConfig, Config, extract, plan_run, publish_run
from tests.helpers.runs import read_features, vectors

ROOT = Path(__file__).parents[2]
SMALL = BackboneConfig("MobileNetV3Small", weights="random", input_size=32)
NETWORK = ["--backbone", "MobileNetV3Small", "--weights", "random", "--input-size", "32"]
# Runs the command where neither package is found.
WITHOUT = """
import sys
sys.modules |= {'tensorflow': None, 'keras': None}
from pipeline.cli import main
sys.exit(main())
"""


def without_tensorflow(*words):
    command = [sys.executable, "-c", WITHOUT, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("engine", ["xla", "openvino"])
def test_planned_shards_are_extracted_without_tensorflow(engine, folder, tmp_path):
    output = tmp_path / "out"
    config = Config(inputs=(str(folder),), output=str(output), network=SMALL, engine=engine)
    plan_run(config)
    words = ["--input", folder, "--output", output, "--engine", engine, *NETWORK]
    done = without_tensorflow("extract", "--planned", *words)
    assert done.returncode == 0, done.stderr
    assert publish_run(output).embedded == 6
    whole = Config(inputs=(str(folder),), output=str(tmp_path / "whole"), network=SMALL)
    extract(whole)
    ours, theirs = vectors(read_features(output)), vectors(read_features(tmp_path / "whole"))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_a_run_that_has_to_export_says_where_to_plan_it(folder, tmp_path):
    words = ["--input", folder, "--output", tmp_path / "out", *NETWORK, "--engine", "openvino"]
    done = without_tensorflow("extract", *words, "--weights", "random", "--top-k", "3")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "tensorflow is not installed here" in last
    assert "image-features plan" in last


def test_the_self_check_says_what_it_needs():
    done = without_tensorflow("selfcheck", *NETWORK, "--engine", "openvino")
    assert done.returncode == 2
    assert "tensorflow is not installed here" in done.stderr.splitlines()[-1]


def test_the_engine_tensorflow_is_refused_in_one_line(folder, tmp_path):
    words = ["--input", folder, "--output", tmp_path / "out", *NETWORK, "--engine", "tensorflow"]
    done = without_tensorflow("extract", *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--engine tensorflow: tensorflow is not installed. pip install 'tensorflow'" in line


def test_the_list_for_workers_is_what_the_package_needs_but_tensorflow_and_keras():
    needed = [line for line in requires("beam-image-features") or () if "extra ==" not in line]
    text = (ROOT / "launch/worker.txt").read_text()
    listed = [line for line in text.splitlines() if not line.startswith("#")]
    ours, theirs = (
        {Requirement(line).name.lower(): Requirement(line).specifier for line in lines}
        for lines in (listed, needed)
    )
    assert theirs.pop("tensorflow")
    assert theirs.pop("keras")
    assert ours == theirs
