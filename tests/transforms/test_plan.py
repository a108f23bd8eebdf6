"""Compare a listing with the tables, and cut references into shards."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from pipeline.steps.changes import Plan
from transforms.plan import PlanPolicy, compare, distinct
from transforms.records import LISTING_SCHEMA, REFERENCE_SCHEMA, references_of
from transforms.shards import ShardPolicy, shard_bounds, shared


def listing(*images: tuple[str, str, int]) -> pa.Table:
    uris, etags, sizes = zip(*images, strict=True) if images else ((), (), ())
    return pa.table(
        [uris, etags, pa.array(sizes, pa.int64()), [None] * len(uris)], schema=REFERENCE_SCHEMA
    )


def known(*images: tuple[str, str, int, str]) -> pa.Table:
    names = ("uri", "etag", "size", "kind")
    kinds = (pa.string(), pa.string(), pa.int64(), pa.string())
    columns = zip(*images, strict=True) if images else [()] * 4
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def test_first_night_all_images_are_new():
    changes = compare(listing(("b", "1", 1), ("a", "1", 1)), known(), known())
    assert (changes.counts.listed, changes.counts.new) == (2, 2)
    assert changes.todo["uri"].to_pylist() == ["a", "b"]


def test_each_image_falls_in_exactly_one_class():
    listed = listing(
        ("new", "1", 1), ("same", "1", 1), ("other-etag", "2", 1), ("other-size", "1", 2),
        ("corrupt", "1", 1), ("corrupt-mended", "2", 1), ("timed-out", "1", 1),
        ("mended-since", "1", 1),
    )  # fmt: skip
    features = known(
        ("same", "1", 1, ""), ("other-etag", "1", 1, ""), ("other-size", "1", 1, ""),
        ("mended-since", "1", 1, ""), ("gone", "1", 1, ""),
    )  # fmt: skip
    errors = known(
        ("corrupt", "1", 1, "corrupt"), ("corrupt-mended", "1", 1, "corrupt"),
        ("timed-out", "1", 1, "io_error"),
    )  # fmt: skip
    changes = compare(listed, features, errors)
    assert changes.todo["uri"].to_pylist() == [
        "corrupt-mended",
        "new",
        "other-etag",
        "other-size",
        "timed-out",
    ]
    counts = (
        changes.counts.new,
        changes.counts.changed,
        changes.counts.retried,
        changes.counts.unchanged,
        changes.counts.still_failed,
    )
    assert counts == (1, 3, 1, 2, 1)
    assert changes.counts.listed == 8


FEATURES = [
    ("same", "1", 1, ""),
    ("other", "1", 1, ""),
    ("gone", "1", 1, ""),
    ("broke", "1", 1, ""),
]
ERRORS = [
    ("corrupt", "1", 1, "corrupt"),
    ("late", "1", 1, "io_error"),
    ("gone-too", "1", 1, "empty"),
    ("broke", "2", 2, "corrupt"),
    ("same", "9", 9, "io_error"),
]
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
        (PlanPolicy(retry_failed=True), "broke gone other", "broke corrupt gone-too late same",
         (0, 0), "broke corrupt late new other"),
        (PlanPolicy(rebuild=True), "broke gone other same", "broke corrupt gone-too late same",
         (0, 0), "broke corrupt late new other same"),
    ],
)  # fmt: skip
def test_every_row_that_is_not_of_an_image_as_it_is_leaves(policy, features, errors, kept, todo):
    """``broke`` and ``same`` are in both tables, as after a run killed between its two commits."""
    changes = compare(listing(*LISTED), known(*FEATURES), known(*ERRORS), policy)
    assert sorted(changes.features.uris.to_pylist()) == features.split()
    assert sorted(changes.errors.uris.to_pylist()) == errors.split()
    assert (changes.features.kept, changes.errors.kept) == kept
    assert changes.todo["uri"].to_pylist() == todo.split()
    assert (changes.counts.listed, changes.counts.gone, changes.counts.known) == (6, 2, 9)


def test_what_is_known_already_is_nothing_to_do():
    features, errors = known(("a", "1", 1, ""), ("b", "1", 1, "")), known(("c", "1", 1, "corrupt"))

    def plan(*images, **policy):
        made = Plan(None, "")
        made.add(compare(listing(*images), features, errors, PlanPolicy(**policy)))
        return made

    assert plan(("a", "1", 1), ("b", "1", 1), ("c", "1", 1)).nothing_to_do
    assert not plan(("a", "1", 1), ("c", "1", 1)).nothing_to_do
    assert not plan(("a", "1", 1), ("b", "1", 1)).nothing_to_do
    gone = plan(("a", "1", 1), keep_removed=True)
    assert gone.nothing_to_do
    assert gone.counts.gone == 2


def test_an_image_listed_by_two_patterns_counts_once():
    twice = listing(("a", "1", 1), ("b", "1", 1), ("a", "1", 1))
    assert distinct(twice)["uri"].to_pylist() == ["a", "b"]
    assert compare(twice, known(), known()).counts.listed == 2


def test_the_order_of_the_listing_does_not_matter():
    images = [(f"image-{i}", "1", i) for i in range(100)]
    forward = compare(listing(*images), known(), known()).todo
    assert forward.equals(compare(listing(*reversed(images)), known(), known()).todo)


@pytest.mark.parametrize(
    ("count", "shard_size", "workers", "shards"),
    [(0, 2048, 1, 0), (1, 2048, 1, 1), (26, 2048, 8, 1), (1000, 2048, 1, 4), (1000, 2048, 2, 8),
     (200, 2048, 1, 1), (200, 2048, 2, 4),
     (4096, 2048, 0, 2), (1000, 100, 1, 10), (1_000_000, 2048, 4, 489), (10, 3, 1, 4)],
)  # fmt: skip
@pytest.mark.parametrize("size", [100_000, 0, -1])
def test_shards_are_even_whole_and_enough_for_all_workers(count, shard_size, workers, shards, size):
    bounds = shard_bounds(np.full(count, size), ShardPolicy(shard_size, 1 << 30, workers))
    assert len(bounds) == shards
    assert_whole(bounds, count)
    lengths = {length for _, length in bounds}
    assert all(length <= shard_size for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


def assert_whole(bounds, count):
    assert sum(length for _, length in bounds) == count
    assert all(length > 0 for _, length in bounds)
    assert [start for start, _ in bounds] == [
        sum(n for _, n in bounds[:i]) for i in range(len(bounds))
    ]


SCAN = 30_000_000  # bytes of a 50-megapixel JPEG


@pytest.mark.parametrize("workers", [0, 1, 40])
def test_large_images_make_shards_of_fewer(workers):
    sizes = np.array([100_000] * 5000 + [SCAN] * 500 + [100_000] * 5000)
    bounds = shard_bounds(sizes, ShardPolicy(2048, 1 << 30, workers))
    assert_whole(bounds, len(sizes))
    held = [int(sizes[start : start + length].sum()) for start, length in bounds]
    assert max(held) < (1 << 30) + SCAN
    assert max(length for _, length in bounds) <= 2048
    assert len(bounds) >= max(5 + 14, 4 * workers)


def test_one_image_of_more_bytes_than_a_shard_is_one_image():
    bounds = shard_bounds(np.array([1, 1, 500, 1, 1]), ShardPolicy(100, 100, 0))
    assert_whole(bounds, 5)
    assert len(bounds) == 2


def test_unknown_sizes_count_as_the_mean_of_the_known():
    half = np.where(np.arange(1000) % 2, SCAN, -1)
    all_known = shard_bounds(np.full(1000, SCAN), ShardPolicy(2048, 1 << 30, 0))
    assert shard_bounds(half, ShardPolicy(2048, 1 << 30, 0)) == all_known


@pytest.mark.slow
def test_the_benchmark_of_a_large_table_still_runs():
    """Check only that a run finds all unchanged; its timings would need an idle machine."""
    words = [sys.executable, "-m", "benchmarks.plan_million", "20000"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (
        "listed 20,000 = new 0 + changed 0 + unchanged 20,000 + retried 0; removed 0;"
        in done.stdout
    )
    assert "3,000 new, 1,000 removed: " in done.stdout
    assert done.stdout.endswith("planned\n")


def to_do(*images: tuple[str, str, int]) -> pa.Table:
    rows = listing(*images)
    columns = [
        rows[f.name] if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in LISTING_SCHEMA
    ]
    return pa.table(columns, schema=LISTING_SCHEMA)


def test_targets_share_the_images_to_do():
    both, first, second = ("b", "1", 1), ("a", "1", 1), ("c", "1", 1)
    rows = shared([to_do(first, both), to_do(both, second)])
    assert rows.select(["uri", "targets"]).to_pylist() == [
        {"uri": "a", "targets": 1},
        {"uri": "b", "targets": 3},
        {"uri": "c", "targets": 2},
    ]
    assert [each.targets for each in references_of(rows)] == [1, 3, 2]
    assert shared([to_do(first)]).equals(to_do(first))
    # A target that copies its vector and one that reads the image each have a row.
    copied = to_do(both).set_column(6, "content", pa.array(["0" * 64]))
    rows = shared([to_do(both), copied])
    assert [(row["targets"], row["content"]) for row in rows.to_pylist()] == [
        (1, None),
        (2, "0" * 64),
    ]
    nothing = to_do(first).slice(0, 0)
    assert [row["targets"] for row in shared([nothing, to_do(first)]).to_pylist()] == [2]
