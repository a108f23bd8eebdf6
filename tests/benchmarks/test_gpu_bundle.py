"""The bundle that checks a GPU: made and run here, on the CPU, with small settings."""

import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from benchmarks import gpu_bundle
from tests.helpers.dockerfile_runs import ROOT
from tests.helpers.nets import net
from transforms.backbones import BackboneConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Unpack a bundle of one small network, of which all large weights are made, without wheels."""
    folder = tmp_path_factory.mktemp("bundle")
    net().save(folder / "own.keras")
    small = BackboneConfig(str(folder / "own.keras"), preprocess="tf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_bundle, "_config", lambda name, scratch: small)
        patch.setattr(gpu_bundle, "_SMALL", 300)
        gpu_bundle.write_bundle(folder / "bundle.tar.gz", ["ResNet50"], wheels=False)
    with tarfile.open(folder / "bundle.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "gpu-bundle"


def check(bundle, folder, *words):
    """Run the script where neither TensorFlow nor Keras nor Beam is found."""
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.modules |= dict.fromkeys(['tensorflow', 'keras', 'apache_beam'])\n"
    )
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": f"{folder}:{ROOT}"}
    command = ["sh", str(bundle / "gpu_check.sh"), "--photos", "12", "--threads", "1", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )


def test_the_check_measures_each_precision_and_finds_wrong_weights(bundle, tmp_path):
    precisions = ["--precision", "float32", "--precision", "bfloat16"]
    done = check(bundle, tmp_path, *precisions)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu_check.json").read_text())["rows"]
    assert [(row["network"], row["precision"], row["problem"]) for row in rows] == [
        ("ResNet50", "float32", ""),
        ("ResNet50", "bfloat16", ""),
    ]
    assert all(row["model"] > 0 and row["end_to_end"]["1"] > 0 for row in rows)
    assert "| ResNet50 | float32 | 1.000000 | 0.99999 | 8 |" in done.stdout
    golden = next(bundle.glob("networks/*/golden.npz"))
    with np.load(golden) as arrays:
        vectors = arrays["vectors"]
        np.savez(golden, images=arrays["images"], vectors=vectors[::-1])
    done = check(bundle, tmp_path, "--precision", "float32")
    assert done.returncode == 1
    assert "self-check failed: xla in float32 computes other vectors" in done.stdout
    assert not done.stderr


def test_a_device_that_is_required_and_not_there_is_said(bundle, tmp_path):
    done = check(bundle, tmp_path, "--require-accelerator")
    assert done.returncode == 1
    assert "JAX sees no GPU and no TPU" in done.stdout
