"""Measure exports against pyarrow alone, which reads the parts and writes them again."""

from __future__ import annotations

import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq

import pipeline
from benchmarks.rows import Row, Settings
from benchmarks.tables import MadeRows, made_table

_ROWS, _NIGHT = 100_000, 3000
_WANTED = 0.5
_FAST = ("npy", "parquet", "vertex", "lance")
_TARGETS = (*_FAST, "faiss", "pinecone")


def export(settings: Settings) -> Iterator[Row]:
    """Export made rows to each target, then those of a further night."""
    output, dest = settings.folder / f"export-{_ROWS}", settings.folder / "exported"
    copied = settings.folder / "copied"
    for folder in (output, dest):
        shutil.rmtree(folder, ignore_errors=True)
    made_table(output, _ROWS)
    configs = dict(_configs(dest))
    for target, config in configs.items():
        anew = replace(config, replace=True)
        # In turns, so that a busy machine slows both.
        pairs = [
            (_seconds(_copy, output / "features", copied), _seconds(pipeline.export, output, anew))
            for _ in range(settings.rounds)
        ]
        alone, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
        detail = f"{_ROWS / ours:,.0f} rows/s; pyarrow alone {_ROWS / alone:,.0f}"
        wanted = _WANTED if target in _FAST else None
        yield Row(
            f"export {_ROWS:,} to {target}", alone / ours, "of pyarrow", wanted, detail=detail
        )
    made_table(output, _NIGHT, MadeRows(night=1))
    for target, config in configs.items():
        seconds = _seconds(pipeline.export, output, config)
        yield Row(f"export {_NIGHT:,} more to {target}", seconds, "s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    yield Row("memory of all these exports at most, faiss included", peak, "MiB")
    for folder in (output, dest, copied):
        shutil.rmtree(folder, ignore_errors=True)


def _configs(dest: Path) -> Iterator[tuple[str, pipeline.ExportConfig]]:
    for target in _TARGETS:
        if target == "lance" and not find_spec("lancedb"):
            print("  lance is left out: it is not installed", file=sys.stderr)
            continue
        name = "photos.lance" if target == "lance" else target
        yield target, pipeline.ExportConfig(target, str(dest / name))


def _copy(table: Path, to: Path) -> None:
    """Read each part and write it, as plain as pyarrow does."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path in table.glob("part-*.parquet"):
        rows = pq.read_table(path)
        pq.write_table(rows, to / path.name, compression="zstd")


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started
