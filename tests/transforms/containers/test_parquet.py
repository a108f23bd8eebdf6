"""The images of a Parquet file are those of its column of bytes; damage costs what follows."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers.containers import PHOTOS, members_of, problems_of, read_all
from transforms.containers import kinds, parquet
from transforms.errors import UserError
from transforms.read import ReadPolicy

DATA = list(PHOTOS.values())
NUMBERED = {f"{number:06d}": data for number, data in enumerate(DATA)}


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
@pytest.mark.parametrize("group", [1, 3, 100])
def test_rows_are_read_exactly(tmp_path, kind, group):
    columns = {"id": [1, 2, 3, 4], "jpg": pa.array(DATA, kind)}
    path = write(tmp_path / "a.bin", columns, row_group_size=group)
    assert read_all(path) == NUMBERED


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
def test_compressions(tmp_path, compression):
    assert read_all(write(tmp_path / "a", {"image": DATA}, compression=compression)) == NUMBERED


def test_a_data_set_of_hugging_face(tmp_path):
    images = [{"bytes": data, "path": None} for data in DATA]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    made = datasets.Dataset.from_dict({"image": images, "label": [1, 2, 3, 4]}, features)
    made.to_parquet(tmp_path / "train-00000-of-00001.parquet", batch_size=3)
    assert read_all(tmp_path / "train-00000-of-00001.parquet") == NUMBERED


def test_the_layout_of_img2dataset(tmp_path):
    """Its column of bytes is null where the download failed."""
    columns = {
        "key": ["000000000", "000000001", "000000002"],
        "url": ["https://example.org/a", "https://example.org/b", "https://example.org/c"],
        "status": ["success", "failed_to_download", "success"],
        "error_message": [None, "HTTP Error 404", None],
        "width": [24, None, 24],
        "jpg": pa.array([DATA[0], None, DATA[1]], pa.binary()),
    }
    path = write(tmp_path / "00000.parquet", columns)
    assert read_all(path) == {"000000": DATA[0], "000001": "empty", "000002": DATA[1]}
    assert problems_of(path) == {"000001": "jpg is null in this row"}


def test_the_metadata_beside_the_tars_of_img2dataset_is_no_container_of_images(tmp_path):
    path = write(tmp_path / "00000.parquet", {"key": ["0"], "status": ["success"]})
    with pytest.raises(UserError, match="has no column of bytes"):
        members_of(path)


def test_the_column_is_found_or_named(tmp_path):
    path = write(tmp_path / "a", {"thumb": [b"t"], "full": [b"f"]})
    with pytest.raises(UserError) as error:
        members_of(path)
    assert str(error.value) == (
        f"{path} has several columns of bytes; columns of bytes (binary, or struct with 'bytes'): "
        "full, thumb; name one with --image-column"
    )
    assert read_all(path, column="full") == {"000000": b"f"}
    with pytest.raises(UserError, match="has no column 'fill' of bytes"):
        members_of(path, column="fill")
    assert read_all(write(tmp_path / "b", {"only": [b"o"]})) == {"000000": b"o"}


def test_a_name_with_a_dot_is_no_path(tmp_path):
    path = write(tmp_path / "a", {"a.b": [b"x"], "a": [1]})
    assert read_all(path) == {"000000": b"x"}


def test_a_large_row_group_is_cut_into_streams(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_STREAM_ROWS", 7)
    rows = [b"%d" % number for number in range(40)]
    path = write(tmp_path / "a", {"jpg": rows}, row_group_size=20, data_page_size=8)
    assert {found.member.stream for found in members_of(path)} == set(range(6))
    assert list(read_all(path).values()) == rows


def test_a_row_over_the_limit_fails_alone(tmp_path):
    path = write(tmp_path / "a", {"jpg": [b"a", b"b" * 5000, b"c"]})
    found = read_all(path, policy=ReadPolicy(max_bytes=4999))
    assert found == {"000000": b"a", "000001": "too_large", "000002": b"c"}


def test_rows_that_share_one_large_value_are_read_one_by_one(tmp_path):
    """A KiB of a file stands for many GiB: together the rows of a batch would fill the memory."""
    value = bytes(10_000_000)
    path = write(tmp_path / "a", {"jpg": [value] * 64}, compression="zstd")
    assert path.stat().st_size < 100_000
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    peak = 0
    for batch in parquet_batches(path):
        peak = max(peak, pa.total_allocated_bytes() - before)
        assert len(batch) == len(value)
    assert peak < 8 * len(value)


def parquet_batches(path):
    from transforms.containers.bytes import open_container

    with open_container(str(path)) as file:
        yield from parquet.read_rows(file, "jpg", set(range(64)))


def test_billions_of_rows_end_the_walk(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "MAX_MEMBERS", 1000)
    path = write(tmp_path / "a", {"jpg": [b"x"] * 100_000})
    found = read_all(path)
    assert found.pop("") == "too_large"
    assert len(found) == 1000
    assert "more than 1,000 members" in problems_of(path)[""]


def test_no_rows(tmp_path):
    assert read_all(write(tmp_path / "a", {"jpg": pa.array([], pa.binary())})) == {}


def test_a_file_that_is_cut_has_no_footer(tmp_path):
    path = write(tmp_path / "a", {"jpg": DATA})
    path.write_bytes(path.read_bytes()[:-20])
    assert read_all(path) == {"": "corrupt"}
    assert problems_of(path)[""].startswith("the Parquet file cannot be read: ")


def test_a_damaged_page_costs_its_row_group(tmp_path):
    path = write(
        tmp_path / "a", {"jpg": DATA}, row_group_size=1, use_dictionary=False, compression="zstd"
    )
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    assert read_all(path) == {**NUMBERED, "000001": "corrupt"}


def test_fewer_rows_than_the_footer_says(tmp_path, monkeypatch):
    path = write(tmp_path / "a", {"jpg": DATA})
    whole = parquet._read_group
    monkeypatch.setattr(parquet, "_read_group", lambda *args: list(whole(*args))[:2])
    found = read_all(path)
    assert list(found.values()) == [*DATA[:2], "truncated", "truncated"]
    assert "has fewer rows than its footer says" in problems_of(path)["000002"]
