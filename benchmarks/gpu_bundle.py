"""Write one archive with which a machine without a network checks its GPU: ``make gpu-bundle``.

It holds our wheel and two that a machine with JAX, NumPy and Pillow lacks, three networks as
StableHLO, the photos to crop, and ``gpu_check.sh``. Weights of networks are not stored: the machine
makes them by a seed, with the mean and the deviation of each array. Small arrays are stored as they
are. So ResNet50 and ViT-S/16, of 102 and 88 MB, take less than 1 MB each. EfficientNet-Lite0 keeps
its real weights, of 18 MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_check import GIVEN, make_weights
from benchmarks.images import PHOTOS, load_photo
from benchmarks.networks import vit_small
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.exported import exported
from transforms.engines import EngineConfig, load_engine, read_exported
from transforms.engines.base import STABLEHLO
from transforms.engines.xla_engine import XlaEngine

ROOT = Path(__file__).resolve().parents[1]
# The Pythons of the package; the others' wheels are left out.
PYTHONS = ("3.11", "3.12", "3.13")
_WHEELS = ("simplejpeg>=1.9,<2", "cykooz-resizer>=4,<5")
_SEEDED = ("ResNet50", "ViT-S16")
# Arrays up to this size are stored.
_SMALL = 16_384
NETWORKS = ("efficientnet_lite0", *_SEEDED)


def main() -> None:
    """Write the archive, and print its size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_bundle", description=__doc__)
    parser.add_argument("archive", type=Path, help="the .tar.gz to write")
    arguments = parser.parse_args()
    write_bundle(arguments.archive, NETWORKS)
    print(f"{arguments.archive}: {arguments.archive.stat().st_size / 1e6:.1f} MB")


def write_bundle(path: Path, networks: Sequence[str], wheels: bool = True) -> None:
    """Write the archive with some of ``NETWORKS``, with or without wheels."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "gpu-bundle")
        folder.mkdir()
        for name in networks:
            write_network(name, folder / "networks" / name, Path(scratch))
        _write_program(folder)
        if wheels:
            _write_wheels(folder / "wheels")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, folder.name)


def write_network(name: str, folder: Path, scratch: Path) -> None:
    """Write a network as StableHLO, with what its weights are made of.

    Args:
        name: One of ``NETWORKS``.
        folder: Is created.
        scratch: A folder for a while.
    """
    *_, lowered = exported(resolve(_config(name, scratch)), True).values()
    shutil.copytree(lowered, folder)
    # The machine makes the weights, and so the sums of all files.
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    if name not in _SEEDED:
        return
    path = folder / STABLEHLO.files[-1]
    with np.load(path) as weights:
        given, facts = _facts(weights)
    path.unlink()
    np.savez_compressed(folder / GIVEN, facts=json.dumps(facts), **given)
    load_engine(EngineConfig(str(lowered), "xla"))
    # Keras computed the golden vectors with other weights.
    _compute_golden(folder)


def _config(name: str, scratch: Path) -> BackboneConfig:
    if name == "ViT-S16":
        return BackboneConfig(f"hub:{vit_small(scratch / 'vit')}")
    return BackboneConfig(name, weights="random" if name in _SEEDED else "imagenet")


def _facts(weights: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the arrays to store, by name, and what each of all arrays is made of."""
    given: dict[str, Any] = {}
    facts: list[dict[str, Any]] = []
    for name in weights:
        array = weights[name]
        if array.size <= _SMALL:
            given[name] = array
            facts.append({"name": name})
        else:
            mean, deviation = float(array.mean()), float(array.std())
            facts.append({"name": name, "shape": array.shape, "mean": mean, "std": deviation})
    return given, facts


def _compute_golden(folder: Path) -> None:
    """Write the golden batch of the made weights, as the program of float32 gives it on this CPU.

    With Keras' weights, the same program has just given Keras' vectors.
    """
    make_weights(folder)
    with np.load(folder / "golden.npz") as golden:
        images = golden["images"]
    vectors = XlaEngine(read_exported(folder), "float32").run(images).features
    np.savez(folder / "golden.npz", images=images, vectors=vectors)
    (folder / STABLEHLO.files[-1]).unlink()


def _write_program(folder: Path) -> None:
    """Write the check, and the photos that it crops, as JPEGs."""
    code, photos = folder / "benchmarks", folder / "photos"
    code.mkdir()
    photos.mkdir()
    for name in ("__init__.py", "gpu_check.py", "images.py"):
        shutil.copy(ROOT / "benchmarks" / name, code)
    shutil.copy(ROOT / "benchmarks/gpu_check.sh", folder)
    for name in PHOTOS:
        load_photo(name).save(photos / f"{Path(name).stem}.jpg", quality=90)


def _write_wheels(folder: Path) -> None:
    """Write our wheel, and those of two packages for each Python."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    into = ["--no-deps", "--dest", str(folder)]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    for version in PYTHONS:
        of_version = ["--only-binary=:all:", "--python-version", version]
        subprocess.run([*pip, "download", *into, *of_version, *_WHEELS], check=True)


if __name__ == "__main__":
    main()
