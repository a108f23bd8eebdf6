"""Which rows are read, and in which shape: empty tables, older parts, large differences."""

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.exporting.base import Shape
from pipeline.exporting.numbers import as_numbers
from pipeline.exporting.rows import _complete
from pipeline.exporting.shape import plain_type
from tests.helpers.exports import counts
from transforms.errors import UserError


@pytest.mark.parametrize("to", ["vertex", "npy", "faiss", "lance"])
def test_a_table_that_lost_all_rows_is_followed(place, to):
    dest = place.dest / "photos.lance" if to == "lance" else place.dest
    place.export(to, dest)
    DeltaTable(place.output / "features").delete()
    result = place.export(to, dest)
    assert (counts(result), result.rows) == ((0, 0, 6), 0)
    assert counts(place.export(to, dest)) == (0, 0, 0)


@pytest.mark.parametrize("to", ["vertex", "npy"])
def test_a_table_without_rows_begins_no_export(place, to):
    DeltaTable(place.output / "features").delete()
    with pytest.raises(UserError, match="has no rows to export"):
        place.export(to)
    assert not place.dest.exists()


def test_columns_and_fields_that_a_part_lacks_are_null():
    source = pa.struct([("license", pa.string()), ("year", pa.int64())])
    types = pa.schema([("uri", pa.string()), ("source", source), ("phash", pa.int64())])
    shape = Shape("uri", {name: name for name in types.names}, types, "embedding", 2)
    old = pa.table({"uri": ["a"], "source": [{"year": 2020}]})
    assert _complete(old, shape).to_pylist() == [
        {"uri": "a", "source": {"license": None, "year": 2020}, "phash": None}
    ]
    assert _complete(old.select(["uri"]), shape)["source"].to_pylist() == [None]


def test_types_are_plain_whatever_the_reader_of_the_log_prefers():
    nested = pa.struct([("a", pa.large_list(pa.string_view())), ("b", pa.large_string())])
    found = plain_type(nested)
    assert found.field("a").type == pa.list_(pa.field("element", pa.string()))
    assert found.field("b").type == pa.string()


def test_numbers_that_float16_cannot_hold_are_refused():
    vectors = np.array([[1, 65_504]], np.float32)
    assert as_numbers(vectors, "float16").tolist() == vectors.tolist()
    with pytest.raises(UserError, match="float16 cannot express"):
        as_numbers(vectors * 2, "float16")
