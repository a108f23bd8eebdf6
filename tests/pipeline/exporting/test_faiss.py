"""An index file of FAISS follows the table, and its ids lead back to the images."""

import json

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

import pipeline
from tests.helpers.exports import check_nearest, counts
from transforms.errors import UserError


def opened(place):
    files = json.loads((place.dest / "export.json").read_text())["files"]
    index = faiss.read_index(str(place.dest / next(iter(files["index"]))))
    return index, pq.read_table(place.dest / next(iter(files["rows"])))


def check(place):
    index, rows = opened(place)
    names = dict(zip(rows["id"].to_pylist(), rows["uri"].to_pylist(), strict=True))

    def search(query):
        _, ids = index.search(query[None] / np.linalg.norm(query), 5)
        return [names[key] for key in ids[0].tolist()]

    check_nearest(place.table(), search)
    assert index.ntotal == rows.num_rows == place.table().num_rows
    assert len(list(place.dest.iterdir())) == 3


@pytest.mark.parametrize("to", ["faiss", "faiss,numbers=float16"])
def test_the_index_follows_the_table(place, to):
    assert counts(place.export(to)) == (6, 0, 0)
    check(place)
    place.night(2)
    assert counts(place.export(to)) == (2, 1, 1)
    check(place)
    pipeline.compact(place.output)
    assert counts(place.export(to)) == (0, 0, 0)
    pipeline.rollback(place.output, 0)
    assert counts(place.export(to)) == (1, 1, 2)
    check(place)


def test_a_damaged_index_is_not_opened(place):
    place.export("faiss")
    place.night(2)
    index = next(place.dest.glob("index-*"))
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(UserError, match="not what was written"):
        place.export("faiss")
    index.unlink()
    with pytest.raises(UserError, match="not what was written"):
        place.export("faiss")
    place.export("faiss", replace=True)
    check(place)


def test_a_table_that_becomes_empty_and_full_again(place):
    place.export("faiss")
    index, _ = opened(place)
    assert index.ntotal == 6
