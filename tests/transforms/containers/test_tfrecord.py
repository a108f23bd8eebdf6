"""The images of a TFRecord file are those that TensorFlow wrote; a bad record fails alone."""

import gzip
import json
import struct

import pytest
import tensorflow as tf

from tests.helpers.containers import PHOTOS, members_of, problems_of, read_all
from transforms.carried import Carry
from transforms.containers import tfrecord
from transforms.containers.base import Wanted
from transforms.containers.bytes import open_container
from transforms.containers.tfrecord import masked_crc
from transforms.file_names import Ignored


def example(**features):
    def feature(value):
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    named = {name.replace("__", "/"): feature(value) for name, value in features.items()}
    record = tf.train.Example(features=tf.train.Features(feature=named))
    return record.SerializeToString()


def write(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


RECORDS = [
    example(image__encoded=data, image__format=b"jpeg", image__class__label=[1, -2], box=[0.5, 1.0])
    for data in PHOTOS.values()
]
NUMBERED = {f"{number:06d}": data for number, data in enumerate(PHOTOS.values())}


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("name", ["a.tfrecord", "train-00000-of-00001", "a.tar"])
def test_records_are_read_exactly(tmp_path, name, compression):
    assert read_all(write(tmp_path / name, RECORDS, compression)) == NUMBERED


@pytest.mark.parametrize("name", ["image", "image_raw", "jpg", "jpeg", "png", "webp"])
def test_the_usual_features(tmp_path, name):
    path = write(tmp_path / "a", [example(**{name: b"image", "id": b"x", "other": b"y"})])
    assert read_all(path) == {"000000": b"image"}


def test_a_feature_that_is_named(tmp_path):
    path = write(tmp_path / "a", [example(left=b"l", image=b"i"), example(image=b"i")])
    assert read_all(path, column="left") == {"000000": b"l", "000001": "unsupported"}
    assert problems_of(path, column="left")["000001"] == (
        "the record has no feature 'left'; it has image; name one with --image-column"
    )


def test_records_without_an_image_fail_alone(tmp_path):
    records = [
        RECORDS[0],
        example(label=1),
        b"no example",
        b"",
        example(image=[b"two", b"images"]),
        example(image=1),
        example(image=b""),
        RECORDS[1],
    ]
    found = read_all(write(tmp_path / "a", records))
    assert (found["000000"], found["000007"]) == (NUMBERED["000000"], NUMBERED["000001"])
    assert found["000001"] == found["000003"] == found["000004"] == "unsupported"
    assert found["000002"] == "corrupt"
    assert found["000005"] == "unsupported"
    assert found["000006"] == b""
    assert len(found) == 8


@pytest.mark.parametrize("feature", ["label", "names"])
def test_a_record_of_a_million_features_takes_no_memory(tmp_path, feature):
    """Some bytes of a compressed file become a record of a GiB."""
    many = {f"f{number}": b"" for number in range(20_000)} if feature == "label" else {}
    record = example(image=b"image", **many)
    if feature == "names":
        record = example(image=[b""] * 20_000)
    (word,) = read_all(write(tmp_path / "a", [record])).values()
    assert word == "unsupported"
    assert "20,000 byte strings" in (message := problems_of(tmp_path / "a")["000000"]) or (
        "more than 10,000 features" in message
    )


def test_a_wrong_crc_of_the_data_fails_alone(tmp_path):
    data = bytearray(write(tmp_path / "a", RECORDS).read_bytes())
    data[12 + len(RECORDS[0]) // 2] ^= 1
    (tmp_path / "a").write_bytes(data)
    assert read_all(tmp_path / "a") == {**NUMBERED, "000000": "corrupt"}
    assert problems_of(tmp_path / "a") == {"000000": "the record has a wrong crc"}


def test_a_wrong_crc_of_the_length_ends_the_walk(tmp_path):
    data = bytearray(write(tmp_path / "a", RECORDS).read_bytes())
    second = 16 + len(RECORDS[0])
    data[second] ^= 1
    (tmp_path / "a").write_bytes(data)
    assert read_all(tmp_path / "a") == {"000000": NUMBERED["000000"], "": "corrupt"}
    assert f"at byte {second:,} has a wrong crc" in problems_of(tmp_path / "a")[""]


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("more", [3, 8, 11, 12, 20])
def test_a_file_that_is_cut(tmp_path, more, compression):
    second = 16 + len(RECORDS[0])
    data = write(tmp_path / "a", RECORDS).read_bytes()[: second + more]
    (tmp_path / "a").write_bytes(gzip.compress(data) if compression else data)
    assert read_all(tmp_path / "a") == {"000000": NUMBERED["000000"], "": "truncated"}


def head(length):
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<L", masked_crc(packed))


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("length", [(1 << 64) - 1, 1 << 63, 1 << 40, (1 << 30) + 1, 1 << 29])
def test_a_record_that_lies_about_its_length(tmp_path, length, compression):
    data = write(tmp_path / "a", RECORDS[:1]).read_bytes() + head(length) + b"some bytes"
    (tmp_path / "a").write_bytes(gzip.compress(data) if compression else data)
    found = read_all(tmp_path / "a")
    assert found.pop("000000") == NUMBERED["000000"]
    assert found in ({"": "truncated"}, {"": "too_large"})


def test_nothing_is_ignored(tmp_path):
    ignored = Ignored()
    members_of(write(tmp_path / "a", RECORDS), ignored=ignored)
    assert ignored.total == 0


@pytest.mark.parametrize(
    ("carry", "values"),
    [
        (("text", "mask"), {"text": "gr\\xfcn", "mask": ["\\xff", "ok"]}),
        (("all",), {"n": 1}),
    ],
)
def test_text_that_is_not_utf8_stops_no_run(tmp_path, carry, values):
    record = example(image__encoded=PHOTOS["a.jpg"], text=b"gr\xfcn", mask=[b"\xff", b"ok"], n=1)
    with open_container(str(write(tmp_path / "a.tfrecord", [record]))) as file:
        (found,) = tfrecord.walk(file, Ignored(), Wanted(carry=Carry(carry)))
    assert json.loads(found.source) == values
