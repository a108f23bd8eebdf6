"""The figures of drift: what each of them sees, on vectors with known differences."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.reports.night import sample
from pipeline.reports.night.drift import FEWEST, measure
from pipeline.reports.night.sample import draw


def samples(rows, share=0.0, shift=0.0):
    """Draw vectors of eight kinds of picture, and as many with some of a ninth kind, or shifted."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(9, 32)) * 3
    # As many of each kind on both nights: another mixture would be a difference too.
    kinds = np.tile(np.arange(rows) % 8, (2, 1))
    kinds[1, : round(share * rows)] = 8
    vectors = centres[kinds] + random.normal(size=(2, rows, 32))
    vectors[1] += shift
    return vectors.astype(np.float32)


def test_nothing_new_reads_as_nothing():
    drift = measure(*samples(1500))
    assert drift.novelty < 0.03
    assert drift.components < 0.2
    assert abs(drift.separability - 0.5) < 0.06


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_novelty_is_about_the_share_of_new_content(share):
    drift = measure(*samples(1500, share))
    assert share <= drift.novelty < share + 0.03
    # The images of the new kind come first, and are the least similar.
    assert set(np.argsort(drift.nearest)[: round(share * 1500 * 0.9)]) <= set(
        range(round(share * 1500))
    )


def test_a_shift_of_all_images_is_seen_by_the_other_two():
    drift = measure(*samples(1500, shift=0.5))
    assert drift.components > 0.2
    assert drift.separability > 0.6


@pytest.mark.parametrize("rows", [0, FEWEST - 1])
def test_a_few_vectors_are_not_compared(rows):
    earlier, tonight = samples(200)
    assert measure(earlier, tonight[:rows]) is None
    assert measure(earlier[:rows], tonight) is None


def test_vectors_of_zeros_and_equal_ones_give_figures():
    drift = measure(np.zeros((60, 8), np.float32), np.ones((60, 8), np.float32))
    assert (drift.components, drift.separability) == (1.0, 1.0)


def test_a_sample_of_a_large_table_reads_some_of_its_parts(monkeypatch):
    names = [f"part-x-shard-0000{number}-{digest}.parquet" for number, digest in enumerate("cabd")]
    table = SimpleNamespace(parts=[{"path": name, "size_bytes": 10} for name in names])
    paths = [f"/out/features/{name}" for name in names] * 3
    hashes = [f"{number * 7 % 12:02d}" for number in range(12)]
    columns = {"uri": [str(n) for n in range(12)], "content_sha256": hashes, "__filename": paths}
    rows = pa.table(columns)
    assert draw(table, rows, 3)["content_sha256"].to_pylist() == ["00", "01", "02"]
    monkeypatch.setattr(sample, "_PARTS", 1)
    monkeypatch.setattr(sample, "_BYTES", 20)
    drawn = draw(table, rows)
    assert set(drawn["__filename"].to_pylist()) == {paths[1], paths[2]}
    assert drawn["content_sha256"].to_pylist() == sorted(drawn["content_sha256"].to_pylist())
    assert len(draw(table, rows.slice(0, 0))) == 0
