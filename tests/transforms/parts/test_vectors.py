"""Vectors are read as Arrow reads them, whatever wrote the part."""

import io
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.runs import read_features
from transforms.parts import vectors as module
from transforms.parts.vectors import read_rows
from transforms.parts.write import encode_part

DIMENSION = 40


def rows(count=3000, kind=None):
    numbers = np.random.default_rng(1).standard_normal((count, DIMENSION), np.float32)
    kind = kind or pa.list_(pa.field("element", pa.float32(), nullable=False), DIMENSION)
    return pa.table(
        {
            "uri": [f"{number:05d}" for number in range(count)],
            "embedding": pa.array(list(numbers), pa.list_(pa.float32())).cast(kind),
        }
    ), numbers


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_a_part_is_read_without_arrow(monkeypatch):
    table, numbers = rows()
    monkeypatch.setattr(module, "_by_arrow", None)
    read, found = read_rows(encode_part(table, {}), ["uri"])
    assert read["uri"].equals(table["uri"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 700},
        {"compression": "none"},
        {"compression": "snappy", "data_page_size": 5000},
        {"compression": "lz4"},
        {"use_dictionary": True},
        {"data_page_version": "2.0"},
        {"use_byte_stream_split": ["embedding.list.element"], "use_dictionary": False},
        {"write_page_checksum": True, "use_dictionary": False},
    ],
    ids=str,
)
def test_other_layouts(options):
    table, numbers = rows()
    np.testing.assert_array_equal(read_rows(written(table, **options), ["uri"])[1], numbers)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), DIMENSION)])
def test_other_types(kind):
    table, numbers = rows(kind=kind)
    np.testing.assert_array_equal(read_rows(encode_part(table, {}), ["uri"])[1], numbers)


def test_no_rows():
    assert read_rows(encode_part(rows(0)[0], {}), ["uri"])[1].shape == (0, DIMENSION)


def test_rows_of_a_run(two_nights):
    table = read_features(two_nights / "out")
    expected = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    np.testing.assert_array_equal(read_rows(encode_part(table, {}), ["uri"])[1], expected)


def test_damaged_bytes_raise_or_give_what_arrow_gives():
    encoded = encode_part(rows(400)[0], {})
    spots = np.linspace(4, len(encoded) - 9, 60, dtype=int)
    for start, end in pairwise(spots.tolist()):
        damaged = bytearray(encoded)
        damaged[start:end] = bytes(end - start)
        try:
            found = read_rows(bytes(damaged), ["uri"])[1]
        except (pa.ArrowException, OSError):
            continue
        assert found.shape == (400, DIMENSION)
