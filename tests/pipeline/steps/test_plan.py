"""A plan in many ranges of URIs, with few rows in memory at once, is the same as in one."""

import random
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import plan_million
from pipeline.steps import changes as planning
from pipeline.steps import shards
from pipeline.steps.listing import Listing
from pipeline.tables import Tables
from transforms.plan import PlanPolicy, Range, in_range, ranges
from transforms.shards import ShardPolicy
from transforms.sources import files as listing_files
from transforms.storage import open_storage

# Rows of the table, in parts of 50; the listing lacks the first 100 and has 200 more.
ROWS = 600


@pytest.fixture
def output(tmp_path, monkeypatch):
    """Make a real table, and a listing of it in files whose URIs overlap."""
    monkeypatch.setattr(plan_million, "PART_ROWS", 50)
    monkeypatch.setattr(listing_files, "GROUP_ROWS", 16)
    monkeypatch.setattr("pipeline.steps.listing.GROUP_ROWS", 16)
    plan_million.make_table(str(tmp_path), ROWS)
    images = plan_million.references(100, ROWS + 100)
    order = random.Random(0).sample(range(len(images)), len(images))
    shuffled = images.take(pa.array(order))
    for number, start in enumerate(range(0, len(images), 180)):
        name = f"listing/{number:06d}-0000"
        listing_files.write_listing_file(
            open_storage(str(tmp_path)), name, shuffled.slice(start, 180), ignored=1
        )
    return tmp_path


def make_plan(output, name, rows, monkeypatch, workers=1):
    monkeypatch.setattr(planning, "RANGE_ROWS", rows)
    storage = open_storage(str(output))
    monkeypatch.setattr(shards, "_PENDING", rows // 2)
    plan = planning.Plan(storage, name)
    written = shards.Shards(storage, name, ShardPolicy(20, 1 << 30, workers))
    tables = [Tables.open(storage)]
    found = list(planning.find_changes(Listing(storage, "listing"), tables, PlanPolicy()))
    for [changes] in found:
        plan.add(changes)
        written.add([changes.todo])
    plan.finish()
    written.finish()
    return plan, written, len(found)


def references(output, name):
    files = sorted((output / name / "plan").glob("*.parquet"))
    return [pq.read_table(file)["uri"].to_pylist() for file in files]


def test_many_ranges_make_the_same_plan_as_one(output, monkeypatch):
    one, one_shards, count = make_plan(output, "one", 1_000_000, monkeypatch)
    assert count == 1
    many, many_shards, count = make_plan(output, "many", 128, monkeypatch)
    assert count > 5
    assert many.counts == one.counts
    assert (one.counts.new, one.counts.unchanged, one.counts.gone) == (200, 500, 100)
    assert (many.todo, many.stale) == (one.todo, one.stale)
    assert (many_shards.images, many_shards.bytes) == (one_shards.images, one_shards.bytes)
    assert list(chain(*references(output, "many"))) == list(chain(*references(output, "one")))
    stale = [
        planning.read_stale(open_storage(str(output)), name, "features") for name in ("one", "many")
    ]
    assert len(stale[0]) == 100
    assert sorted(stale[0].to_pylist()) == sorted(stale[1].to_pylist())


def test_shards_of_many_ranges_are_full_but_for_the_first(output, monkeypatch):
    _, written, _ = make_plan(output, "run", 64, monkeypatch, workers=8)
    lengths = [len(uris) for uris in references(output, "run")]
    assert len(lengths) == len(written.names)
    assert sum(lengths) == 200
    assert max(lengths) <= 20


def test_a_range_reads_only_the_row_groups_that_it_needs(output, monkeypatch):
    listing = Listing(open_storage(str(output)), "listing")
    uris = sorted(plan_million.references(100, ROWS + 100)["uri"].to_pylist())
    read = []
    real = listing_files.read_listing_file
    monkeypatch.setattr(
        "pipeline.steps.listing.read_listing_file",
        lambda data, groups: read.append(groups) or real(data, groups),
    )
    assert sorted(listing.read(Range(uris[300], uris[310]))["uri"].to_pylist()) == uris[300:310]
    assert sum(map(len, read)) <= 2 * 4
    assert listing.read(Range("t")).num_rows == 0
    assert (listing.rows, listing.ignored) == (700, 4)


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_ranges_hold_each_uri_once(most):
    uris = [f"{n:03d}" for n in range(100)] + ["050"] * 30
    table = pa.table({"uri": uris})
    found = ranges([(uri, 1) for uri in uris], most)
    held = [in_range(table, within).num_rows for within in found]
    assert sum(held) == len(uris)
    assert all(rows <= max(most, 31) for rows in held)
    assert len(found) >= len(set(uris)) / max(most, 31)
    assert ranges([], most) == [Range()]
