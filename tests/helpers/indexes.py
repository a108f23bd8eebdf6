"""Make tables with an index, and compare what it finds with an exact search."""

from dataclasses import replace

import numpy as np
import pytest

import pipeline
from benchmarks.tables import MadeRows
from benchmarks.tables import made_table as make_table
from pipeline.indexing.facts import read_all_facts
from tests.helpers.runs import vectors
from transforms.storage import open_storage


def more_rows(output, rows, night=0):
    make_table(output, rows, MadeRows(night, centres=15, part_rows=400))


def facts_of(output):
    return next(iter(read_all_facts(open_storage(str(output)), "features")))


def assert_agree(output, version=None, k=20, where=None, tolerance=2e-3):
    """Compare what each row finds with the index and without it; return the searcher."""
    config = pipeline.SearchConfig(version=version)
    searcher = pipeline.Searcher(str(output), config)
    assert searcher.view is not None
    exact = pipeline.Searcher(str(output), replace(config, exact=True))
    queries = vectors(exact.table.read(["embedding"]))[:12]
    for found, expected in zip(
        searcher.nearest(queries, k, where), exact.nearest(queries, k, where), strict=True
    ):
        assert found.num_rows == expected.num_rows
        np.testing.assert_allclose(found["score"], expected["score"], atol=tolerance)
        rows = {row["uri"]: row for row in expected.to_pylist()}
        for row in found.to_pylist():
            # Near ties may change places with a row that is not among the first k.
            same = rows.get(row["uri"], {**row, "score": expected["score"][-1].as_py()})
            assert row["score"] == pytest.approx(same["score"], abs=tolerance)
            assert row["label"] == same["label"]
    return searcher
