"""Measure the parts of the benchmark; each part yields rows of the table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from benchmarks import peers
from benchmarks.bound import of_bound
from benchmarks.cases import Case
from benchmarks.command import Command, extract
from benchmarks.duplicates import duplicates
from benchmarks.engines import engines
from benchmarks.export import export
from benchmarks.images import make_images
from benchmarks.jobs import jobs
from benchmarks.measure import alternate, median_ratio, median_speed
from benchmarks.networks import networks
from benchmarks.quality import quality
from benchmarks.rows import Row, Settings
from benchmarks.search import search
from benchmarks.training import training

# Enough images for seconds of work beside the start-up, and for full shards with fast networks.
_COUNTS = {"efficientnet_lite0": 4096, "MobileNetV2": 8192, "ResNet50": 640}


def speed(settings: Settings) -> Iterator[Row]:
    """Measure our job against the bound of the machine, by backbone, engine and precision.

    The bound is 1 / (1/decode + 1/model).
    """
    for backbone in settings.backbones:
        case = replace(_case(settings, backbone), kind="against_bound")
        make_images(settings.folder / "small", max(2048, case.count), "small")
        cases = {
            f"{backbone} {engine} {precision}": replace(case, engine=engine, precision=precision)
            for engine, precision in product(settings.engines, settings.precisions)
        }
        yield from of_bound(cases, settings.rounds)


# The ratio ours / peer, by peer and precision.
_WANTED = {
    ("textbook_beam", "float32"): 5.0,
    ("keras_predict", "float32"): 1.6,
    ("timm", "float32"): 2.8,
    ("timm", "bfloat16"): 2.2,
    ("onnxruntime", "float32"): None,
}


def against_peers(settings: Settings) -> Iterator[Row]:
    """Measure our job against the tools that people use today, with efficientnet_lite0."""
    make_images(settings.folder / "small", 2000, "small")
    case = replace(_case(settings, "efficientnet_lite0"), count=2000)
    for precision in settings.precisions:
        cases = {"ours": replace(case, kind="ours", precision=precision)}
        for (kind, of), _ in _WANTED.items():
            if of == precision and not (reason := peers.missing(kind)):
                cases[kind] = replace(case, kind=kind, precision=precision)
            elif of == precision:
                print(f"  {kind} is left out: {reason}", file=sys.stderr)
        figures = alternate(cases, settings.rounds)
        for kind in list(cases)[1:]:
            speeds = [median_speed(figures[name]) for name in ("ours", kind)]
            detail = f"ours {speeds[0]:.0f}/s, {kind} {speeds[1]:.0f}/s"
            ratio = median_ratio(figures["ours"], figures[kind])
            yield Row(
                f"ours / {kind}, {precision}", ratio, "×", _WANTED[kind, precision], detail=detail
            )


def decoding(settings: Settings) -> Iterator[Row]:
    """Measure decode and resize on one core against Pillow's."""
    for size, count, wanted in (("small", 300, 1.8), ("large", 40, 5.0)):
        make_images(settings.folder / size, count, size)
        cases = {
            kind: Case(kind, str(settings.folder / size), count)
            for kind in ("decode_one_core", "pillow_one_core")
        }
        figures = alternate(cases, settings.rounds)
        ours, pillow = (figures[kind] for kind in cases)
        detail = f"ours {median_speed(ours):.0f}/s, Pillow {median_speed(pillow):.0f}/s"
        yield Row(
            f"decode + resize, {size} JPEGs: ours / Pillow",
            median_ratio(ours, pillow),
            "×",
            wanted,
            detail=detail,
        )


def start(settings: Settings) -> Iterator[Row]:
    """Measure the whole command on 20 images, with and without an exported network in the cache."""
    images = make_images(settings.folder / "small", 20, "small")
    with tempfile.TemporaryDirectory() as cache:
        first = [extract(images, Path(cache, str(number))) for number in range(settings.rounds)]
        again = [extract(images, Path(cache, "0")) for _ in range(settings.rounds)]
    yield Row(
        "start: 20 images, exported before",
        _median(again, lambda run: run.seconds),
        "s",
        8.0,
        at_most=True,
    )
    yield Row(
        "start: 20 images, the first time",
        _median(first, lambda run: run.seconds),
        "s",
        20.0,
        at_most=True,
    )
    yield Row(
        "start: to the first image, exported before", _median(again, Command.before_images), "s"
    )


def whole(settings: Settings) -> Iterator[Row]:
    """Measure the whole command on 2,000 images, start-up and commit included."""
    count = 2_000
    images = make_images(settings.folder / "small", count, "small")
    with tempfile.TemporaryDirectory() as cache:
        extract(images[:20], Path(cache))
        seen = [extract(images, Path(cache)) for _ in range(settings.rounds)]
    rate = count / _median(seen, lambda run: run.seconds)
    yield Row(f"whole command, {count:,} images", rate, "images/s", detail=seen[0].shares())
    yield Row("whole command: memory at the most", _median(seen, lambda run: run.peak_mib), "MiB")
    written = float(seen[0].metrics["bytes_written"]) / count / 1024
    yield Row("written an image", written, "KiB", detail="5 KiB are the vector itself")


def _median(runs: Sequence[Command], figure: Callable[[Command], float]) -> float:
    return statistics.median(map(figure, runs))


def memory(settings: Settings) -> Iterator[Row]:
    """Measure ten times the images: memory and time per image must not grow."""
    folder = settings.folder / "small"
    make_images(folder, 20_000, "small")
    cases = {f"{count:,} images": Case("ours", str(folder), count) for count in (2_000, 20_000)}
    few, many = alternate(cases, settings.rounds).values()
    small, large = (
        statistics.median(figure.peak_mib for figure in figures) for figures in (few, many)
    )
    detail = f"{small:.0f} MiB at 2,000, {large:.0f} MiB at 20,000"
    yield Row(
        "memory at 20,000 images / at 2,000", large / small, "×", 1.15, at_most=True, detail=detail
    )
    yield Row("memory at 20,000 images", large / 1024, "GiB", 1.5, at_most=True)
    detail = f"{median_speed(few):.0f}/s at 2,000, {median_speed(many):.0f}/s at 20,000"
    yield Row(
        "time per image at 20,000 / at 2,000",
        median_ratio(few, many),
        "×",
        1.05,
        at_most=True,
        detail=detail,
    )


def overhead(settings: Settings) -> Iterator[Row]:
    """Measure Beam, tables and receipts alone: nothing is read, decoded or computed."""
    make_images(settings.folder / "small", 20_000, "small")
    figures = alternate(
        {"ours": Case("nothing", str(settings.folder / "small"), 20_000)}, settings.rounds
    )
    yield Row("overhead an image", 1000 / median_speed(figures["ours"]), "ms", 0.15, at_most=True)


def latency(settings: Settings) -> Iterator[Row]:
    """Measure a store that answers each request 50 ms late against the local disk."""
    folder = settings.folder / "store"
    # Four shards of 1,024 images: each waits for its first images.
    make_images(folder, 4096, "small")
    with slow_store(folder, 0.05) as environment:
        os.environ.update(environment)
        figures = alternate(
            {kind: Case(kind, str(folder)) for kind in ("from_disk", "from_store")}, settings.rounds
        )
    detail = ", ".join(f"{kind} {median_speed(seen):.0f}/s" for kind, seen in figures.items())
    ratio = median_ratio(figures["from_store"], figures["from_disk"])
    yield Row("from a store 50 ms away / from disk", ratio, "×", 0.85, detail=detail)


@contextmanager
def slow_store(folder: Path, delay: float) -> Iterator[dict[str, str]]:
    """Serve a folder as a store that answers late; yield the environment of its clients."""
    words = [sys.executable, "-m", "benchmarks.slow_store", str(folder), str(delay)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = server.stdout.readline().strip()
        try:
            yield {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_SKIP_SIGNATURE": "true",
                "AWS_REGION": "x",
            }
        finally:
            server.terminate()


def _case(settings: Settings, backbone: str) -> Case:
    # Weights do not change the speed.
    weights = "imagenet" if backbone == "efficientnet_lite0" else "random"
    return Case(
        "ours", str(settings.folder / "small"), _COUNTS.get(backbone, 256), backbone, weights
    )


PARTS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "quality": quality,
    "decode": decoding,
    "start": start,
    "whole": whole,
    "overhead": overhead,
    "latency": latency,
    "speed": speed,
    "backbones": networks,
    "engines": engines,
    "peers": against_peers,
    "jobs": jobs,
    "memory": memory,
    "search": search,
    "duplicates": duplicates,
    "export": export,
    "training": training,
}
