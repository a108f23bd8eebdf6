"""Measure search and its index: on activations of real photos, and on a million made rows."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import pipeline
from benchmarks.rows import Row, Settings
from benchmarks.tables import MadeRows, made_table, made_vectors, real_table

_REAL, _MILLION, _NIGHT = 30_000, 1_000_000, 3000
_QUERIES = 300
_AT = 10


def search(settings: Settings) -> Iterator[Row]:
    """Measure the index against exact search, plain FAISS and LanceDB, on the same vectors."""
    output = real_table(settings.folder, _REAL)
    yield from _real(output)
    yield from _million(settings.folder / f"made-{_MILLION}")


def _real(output: Path) -> Iterator[Row]:
    """Compare ways to search the vectors of real photos."""
    exact = pipeline.Searcher(str(output), pipeline.SearchConfig(exact=True))
    table = exact.table.read(["uri", "embedding"])
    matrix = table["embedding"].combine_chunks().flatten().to_numpy()
    matrix = matrix.reshape(table.num_rows, -1)
    queries = matrix[np.random.default_rng(7).choice(len(matrix), _QUERIES, replace=False)]
    truth = [set(hits["uri"].to_pylist()) for hits in exact.nearest(queries, _AT)]
    uris = np.array(table["uri"].to_pylist())
    count = f"{len(matrix):,} real"
    yield _speed(f"search {count}, exact", queries, partial(exact.nearest, k=_AT))
    for width in (2, 1):
        config = pipeline.IndexConfig(bytes_per_number=width, rebuild=True)
        result = pipeline.index(output, config)
        yield Row(f"index {count}, {width} bytes: build", result.seconds, "s")
        ours = pipeline.Searcher(str(output))
        found = [set(hits["uri"].to_pylist()) for hits in ours.nearest(queries, _AT)]
        yield _recall(f"index {count}, {width} bytes: recall@{_AT}", found, truth, 0.99)
        yield _speed(f"search {count}, {width} bytes", queries, partial(ours.nearest, k=_AT))
    for name, build in (("plain FAISS", _faiss), ("LanceDB", _lance)):
        if not find_spec("faiss" if build is _faiss else "lancedb"):
            print(f"  {name} is left out: it is not installed", file=sys.stderr)
            continue
        started = time.perf_counter()
        nearest = build(matrix, output.parent)
        yield Row(f"{name} {count}: build", time.perf_counter() - started, "s")
        found = [set(uris[nearest(query)].tolist()) for query in queries]
        yield _recall(f"{name} {count}: recall@{_AT}", found, truth, None)
        yield _speed(f"{name} {count}: search", queries, nearest)


def _million(output: Path) -> Iterator[Row]:
    """Measure a night of a million rows."""
    shutil.rmtree(output, ignore_errors=True)
    made_table(output, _MILLION)
    result = pipeline.index(output)
    yield Row("index 1,000,000 made: build", result.seconds, "s", detail=_memory())
    made_table(output, _NIGHT, MadeRows(night=1))
    queries = made_vectors(_QUERIES, 77, MadeRows().centres)
    ours = pipeline.Searcher(str(output))
    yield _speed("search 1,000,000 made, a night behind", queries, partial(ours.nearest, k=_AT))
    result = pipeline.index(output)
    assert result.done == "updated"
    yield Row("index 1,000,000 made: update by 3,000", result.seconds, "s", 10, at_most=True)
    ours = pipeline.Searcher(str(output))
    yield _speed("search 1,000,000 made", queries, partial(ours.nearest, k=_AT), 10)
    shutil.rmtree(output)


def _faiss(matrix: np.ndarray, _: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a search by FAISS' own defaults for this many vectors."""
    faiss: Any = import_module("faiss")
    vectors = matrix.copy()
    faiss.normalize_L2(vectors)
    index = faiss.index_factory(vectors.shape[1], "IVF512,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = 16

    def nearest(query: np.ndarray) -> np.ndarray:
        found: np.ndarray = index.search(query[None] / np.linalg.norm(query), _AT)[1][0]
        return found

    return nearest


def _lance(matrix: np.ndarray, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a search by LanceDB's IVF_PQ, with its exact refinement."""
    lancedb: Any = import_module("lancedb")
    place = folder / "lance"
    shutil.rmtree(place, ignore_errors=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    rows = pa.table({"row": np.arange(len(matrix)), "vector": vectors})
    table = lancedb.connect(str(place)).create_table("photos", rows)
    table.create_index(metric="cosine", vector_column_name="vector")

    def nearest(query: np.ndarray) -> np.ndarray:
        asked = table.search(query).distance_type("cosine").nprobes(20).refine_factor(10)
        return np.array(asked.limit(_AT).to_arrow()["row"].to_pylist())

    return nearest


def _speed(
    what: str,
    queries: np.ndarray,
    nearest: Callable[[np.ndarray], object],
    wanted: float | None = None,
) -> Row:
    """Time one query after the other, warm."""
    for query in queries[:20]:
        nearest(query)
    seconds = []
    for query in queries:
        started = time.perf_counter()
        nearest(query)
        seconds.append(time.perf_counter() - started)
    slow = 1000 * float(np.percentile(seconds, 95))
    detail = f"95 % below {slow:.1f} ms; {_memory()}"
    milliseconds = 1000 * statistics.median(seconds)
    return Row(what, milliseconds, "ms", wanted, at_most=True, detail=detail)


def _recall(what: str, found: list[set[str]], truth: list[set[str]], wanted: float | None) -> Row:
    shares = [len(own & right) / len(right) for own, right in zip(found, truth, strict=True)]
    mean = statistics.mean(shares)
    return Row(what, mean, "of 1", wanted, detail=f"{mean:.4f}")


def _memory() -> str:
    """Return the memory of this process now, without mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return f"{kib >> 10:,} MiB in memory"
