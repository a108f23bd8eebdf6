"""Compare the engines on this CPU: start, rate, memory, and what a worker has to install."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

from benchmarks.cases import Case
from benchmarks.measure import Figure, alternate
from benchmarks.rows import Row, Settings

_ENGINES = ("tensorflow", "openvino", "xla")
_COUNTS = {"efficientnet_lite0": 64, "ResNet50": 32}
_WORKER = Path(__file__).resolve().parents[1] / "launch/worker.txt"
_ADDED = {"tensorflow": ("tensorflow", "keras"), "openvino": ("openvino",), "xla": ("jax",)}


def engine_alone(case: Case) -> dict[str, float]:
    """Measure the seconds to the first batch of an exported network, and images/s after it."""
    start = time.perf_counter()
    engine = case.engine_of()
    shape = (case.count, *engine.model.input_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    engine.run(pixels[: engine.batch_size])
    first = time.perf_counter()
    engine.run(pixels)
    return {"start": first - start, "ours": case.count / (time.perf_counter() - first)}


def engines(settings: Settings) -> Iterator[Row]:
    """Measure each engine in float32, with the network exported before."""
    for backbone, count in _COUNTS.items():
        weights = "imagenet" if backbone == "efficientnet_lite0" else "random"
        cases = {
            engine: Case("engine_alone", "", count, backbone, engine=engine, weights=weights)
            for engine in _ENGINES
        }
        # The first round exports, and lowers and compiles what xla keeps on disk.
        rounds = alternate(cases, settings.rounds + 1)
        yield from _rows(backbone, {name: seen[1:] for name, seen in rounds.items()})
        first = rounds["xla"][0].by_name["start"]
        yield Row(f"{backbone} xla: start, with lowering and compiling", first, "s")
    for engine in _ENGINES:
        yield Row(f"a worker's packages with {engine}", _installed_mib(engine), "MiB")


def _rows(backbone: str, rounds: dict[str, list[Figure]]) -> Iterator[Row]:
    speeds = {
        name: statistics.median(figure.images_per_second for figure in seen)
        for name, seen in rounds.items()
    }
    for name, seen in rounds.items():
        start = statistics.median(figure.by_name["start"] for figure in seen)
        memory = statistics.median(figure.peak_mib for figure in seen)
        detail = f"{speeds[name]:.1f}/s, {memory:.0f} MiB at the most"
        yield Row(f"{backbone} {name}: start to the first batch", start, "s", detail=detail)
    detail = f"xla {speeds['xla']:.1f}/s, tensorflow {speeds['tensorflow']:.1f}/s"
    ratio = speeds["xla"] / speeds["tensorflow"]
    yield Row(f"{backbone} on this CPU: xla / tensorflow", ratio, "×", detail=detail)


def _installed_mib(engine: str) -> float:
    """Sum the files of all packages that a worker with an engine needs, as installed here."""
    listed = [line for line in _WORKER.read_text().splitlines() if not line.startswith("#")]
    waiting = [Requirement(line) for line in (*listed, *_ADDED[engine])]
    sizes: dict[str, int] = {}
    while waiting:
        wanted = waiting.pop()
        name = wanted.name.lower().replace("_", "-")
        if name in sizes or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            print(f"  {wanted.name} is not installed, and not counted", file=sys.stderr)
            continue
        paths = [Path(str(file.locate())) for file in found.files or ()]
        sizes[name] = sum(path.stat().st_size for path in paths if path.exists())
        waiting += [Requirement(line) for line in found.requires or ()]
    return sum(sizes.values()) / 2**20
