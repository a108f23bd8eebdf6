"""The comparison of a listing with the tables, and the cut into shards."""

import subprocess
import sys

import pyarrow as pa
import pytest

from transforms.plan import PlanPolicy, compare, distinct, shard_bounds
from transforms.records import REFERENCE_SCHEMA


def listing(*images: tuple[str, str, int]) -> pa.Table:
    uris, etags, sizes = zip(*images, strict=True) if images else ((), (), ())
    return pa.table([uris, etags, pa.array(sizes, pa.int64()), [None] * len(uris)], schema=REFERENCE_SCHEMA)


def known(*images: tuple[str, str, int, str]) -> pa.Table:
    names = ("uri", "etag", "size", "kind")
    kinds = (pa.string(), pa.string(), pa.int64(), pa.string())
    columns = zip(*images, strict=True) if images else [()] * 4
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def test_first_night_all_images_are_new():
    changes = compare(listing(("b", "1", 1), ("a", "1", 1)), known(), known())
    assert (changes.listed, changes.new) == (2, 2)
    assert changes.todo["uri"].to_pylist() == ["a", "b"]


def test_each_image_falls_in_exactly_one_class():
    listed = listing(
        ("new", "1", 1), ("same", "1", 1), ("other-etag", "2", 1), ("other-size", "1", 2),
        ("corrupt", "1", 1), ("corrupt-mended", "2", 1), ("timed-out", "1", 1), ("mended-since", "1", 1),
    )  # fmt: skip
    features = known(
        ("same", "1", 1, ""), ("other-etag", "1", 1, ""), ("other-size", "1", 1, ""), ("mended-since", "1", 1, ""),
        ("gone", "1", 1, ""),
    )  # fmt: skip
    errors = known(
        ("corrupt", "1", 1, "corrupt"), ("corrupt-mended", "1", 1, "corrupt"), ("timed-out", "1", 1, "io_error"),
    )  # fmt: skip
    changes = compare(listed, features, errors)
    assert changes.todo["uri"].to_pylist() == [
        "corrupt-mended",
        "new",
        "other-etag",
        "other-size",
        "timed-out",
    ]
    counts = (changes.new, changes.changed, changes.retried, changes.unchanged, changes.still_failed)
    assert counts == (1, 3, 1, 2, 1)
    assert changes.listed == 8


FEATURES = [("same", "1", 1, ""), ("other", "1", 1, ""), ("gone", "1", 1, ""), ("broke", "1", 1, "")]
ERRORS = [("corrupt", "1", 1, "corrupt"), ("late", "1", 1, "io_error"), ("gone-too", "1", 1, "empty"),
          ("broke", "2", 2, "corrupt"), ("same", "9", 9, "io_error")]  # fmt: skip
LISTED = [
    ("same", "1", 1),
    ("other", "2", 1),
    ("corrupt", "1", 1),
    ("late", "1", 1),
    ("broke", "2", 2),
    ("new", "1", 1),
]


@pytest.mark.parametrize(
    ("policy", "features", "errors", "kept", "todo"),
    [
        (PlanPolicy(), "broke gone other", "gone-too late same", (0, 0), "late new other"),
        (PlanPolicy(keep_removed=True), "broke other", "late same", (1, 1), "late new other"),
        (PlanPolicy(retry_failed=True), "broke gone other", "broke corrupt gone-too late same", (0, 0),
         "broke corrupt late new other"),
        (PlanPolicy(rebuild=True), "broke gone other same", "broke corrupt gone-too late same", (0, 0),
         "broke corrupt late new other same"),
    ],
)  # fmt: skip
def test_every_row_that_is_not_of_an_image_as_it_is_leaves(policy, features, errors, kept, todo):
    """Also those of a run that was killed between its two commits: ``broke`` and ``same`` are in both tables."""
    changes = compare(listing(*LISTED), known(*FEATURES), known(*ERRORS), policy)
    assert sorted(changes.features.uris.to_pylist()) == features.split()
    assert sorted(changes.errors.uris.to_pylist()) == errors.split()
    assert (changes.features.kept, changes.errors.kept) == kept
    assert changes.todo["uri"].to_pylist() == todo.split()
    assert (changes.listed, changes.gone, changes.known) == (6, 2, 9)


def test_what_is_known_already_is_nothing_to_do():
    features, errors = known(("a", "1", 1, ""), ("b", "1", 1, "")), known(("c", "1", 1, "corrupt"))
    assert compare(listing(("a", "1", 1), ("b", "1", 1), ("c", "1", 1)), features, errors).nothing_to_do
    assert not compare(listing(("a", "1", 1), ("c", "1", 1)), features, errors).nothing_to_do
    assert not compare(listing(("a", "1", 1), ("b", "1", 1)), features, errors).nothing_to_do
    gone = compare(listing(("a", "1", 1)), features, errors, PlanPolicy(keep_removed=True))
    assert gone.nothing_to_do
    assert gone.gone == 2


def test_an_image_listed_by_two_patterns_counts_once():
    twice = listing(("a", "1", 1), ("b", "1", 1), ("a", "1", 1))
    assert distinct(twice)["uri"].to_pylist() == ["a", "b"]
    assert compare(twice, known(), known()).listed == 2


def test_the_order_of_the_listing_does_not_matter():
    images = [(f"image-{i}", "1", i) for i in range(100)]
    forward = compare(listing(*images), known(), known()).todo
    assert forward.equals(compare(listing(*reversed(images)), known(), known()).todo)


@pytest.mark.parametrize(
    ("count", "shard_size", "workers", "shards"),
    [(0, 2048, 1, 0), (1, 2048, 1, 1), (26, 2048, 8, 1), (1000, 2048, 1, 4), (1000, 2048, 2, 8),
     (1000, 100, 1, 10), (1_000_000, 2048, 4, 489), (10, 3, 1, 4)],
)  # fmt: skip
def test_shards_are_even_whole_and_enough_for_all_workers(count, shard_size, workers, shards):
    bounds = shard_bounds(count, shard_size, workers)
    assert len(bounds) == shards
    assert sum(length for _, length in bounds) == count
    assert [start for start, _ in bounds] == [sum(n for _, n in bounds[:i]) for i in range(len(bounds))]
    lengths = {length for _, length in bounds}
    assert all(length <= shard_size for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


@pytest.mark.slow
def test_the_benchmark_of_a_large_table_still_runs():
    """Its figures are for a machine by itself; here only that a quiet night finds everything unchanged."""
    words = [sys.executable, "-m", "benchmarks.plan_million", "20000"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "listed 20,000 = new 0 + changed 0 + unchanged 20,000 + retried 0; removed 0;" in done.stdout
    assert "3,000 new, 1,000 removed: " in done.stdout
    assert done.stdout.endswith("planned\n")
