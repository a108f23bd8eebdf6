"""The perceptual hash stays the same when a picture is encoded again, scaled or read otherwise."""

import io
from itertools import combinations
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import scipy.fft
import skimage
from PIL import Image

from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize
from transforms.phash import phash

SAMPLES = Path(skimage.__file__).parent / "data"
NAMES = "astronaut camera cell chelsea coffee coins gravel moon motorcycle_left retina rocket text"
PHOTOS = {
    name: Image.open(next(SAMPLES.glob(f"{name}.*"))).convert("RGB") for name in NAMES.split()
}


def encoded(picture, form="JPEG", **options):
    file = io.BytesIO()
    picture.save(file, form, **({"quality": 92} | options if form == "JPEG" else options))
    return file.getvalue()


def hashed(data, size=(224, 224), resize="squash"):
    return DecodeAndResize(DecodePolicy(), size, resize)(data).phash


def distance(a, b):
    return ((a ^ b) & (2**64 - 1)).bit_count()


def scaled(picture, factor):
    return picture.resize((round(picture.width * factor), round(picture.height * factor)))


@pytest.fixture(scope="module")
def hashes():
    return {name: hashed(encoded(picture)) for name, picture in PHOTOS.items()}


def test_golden_values_of_pictures_of_32_pixels():
    """At this size nothing is resized. Each machine must give these bits."""
    y, x = np.mgrid[:32, :32]
    picture = np.stack([(x * y) % 256, (3 * x + y * y) % 256, 255 - 8 * y], -1).astype(np.uint8)
    assert phash(picture) == -9133799809707552219


def test_the_first_eight_bits_are_the_frequencies_along_a_row():
    darker = np.repeat(255 - 8 * np.mgrid[:32, :32][1][..., None], 3, 2).astype(np.uint8)
    assert f"{phash(darker) & (2**64 - 1):064b}" == "11010101" + "0" * 56
    downwards = darker.transpose(1, 0, 2)
    first = f"{phash(downwards) & (2**64 - 1):064b}"[::8]
    assert first == "11010101"


@pytest.mark.parametrize(("gray", "bits"), [(0, 0), (1, 1 << 63), (255, 1 << 63)])
def test_a_picture_of_one_colour_has_no_bit_but_the_first(gray, bits):
    assert phash(np.full((300, 200, 3), gray, np.uint8)) & (2**64 - 1) == bits


@pytest.mark.parametrize("name", PHOTOS)
def test_the_bits_are_the_low_frequencies_above_their_median(name):
    pixels = np.asarray(PHOTOS[name].resize((32, 32)))
    low = scipy.fft.dctn(pixels @ np.array([0.299, 0.587, 0.114]))[:8, :8]
    # The first bit is the most significant one; bits follow the rows.
    text = "".join("1" if value > np.median(low) else "0" for value in low.flat)
    assert phash(pixels) & (2**64 - 1) == int(text, 2)


@pytest.mark.parametrize("name", PHOTOS)
def test_networks_and_policies_give_the_same_hash(name):
    """JPEGs are decoded at a scale that depends on the network's size."""
    data = encoded(PHOTOS[name])
    sizes = [(32, 32), (64, 64), (96, 160), (224, 224), (600, 600)]
    seen = [hashed(data, size, resize) for size in sizes for resize in ("squash", "crop")]
    assert max(distance(a, b) for a, b in combinations(seen, 2)) <= 2


def test_networks_below_32_pixels_give_a_similar_hash(hashes):
    for name, picture in PHOTOS.items():
        assert distance(hashed(encoded(picture), (8, 8)), hashes[name]) <= 6


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda picture: encoded(picture, "PNG", icc_profile=None), 2),
        (lambda picture: encoded(picture, quality=75), 2),
        (lambda picture: encoded(picture, quality=30), 2),
        (lambda picture: encoded(scaled(picture, 0.5)), 2),
        (lambda picture: encoded(scaled(picture, 0.25)), 2),
        (lambda picture: encoded(scaled(picture, 2)), 2),
        (lambda picture: encoded(picture.point(lambda level: level * 3 // 4)), 4),
    ],
    ids=["png", "quality75", "quality30", "half", "quarter", "double", "darker"],
)
def test_changes_that_leave_the_picture_leave_the_hash(hashes, change, most):
    for name, picture in PHOTOS.items():
        assert distance(hashed(change(picture)), hashes[name]) <= most, name


def test_other_pictures_have_other_hashes(hashes):
    assert min(distance(a, b) for a, b in combinations(hashes.values(), 2)) >= 20


def test_a_turned_file_has_the_hash_of_the_upright_picture(hashes):
    turned = PHOTOS["coffee"].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert distance(hashed(encoded(turned, exif=exif)), hashes["coffee"]) == 0
    assert distance(hashed(encoded(turned)), hashes["coffee"]) >= 20


def test_duckdb_and_numpy_count_the_bits_that_differ(hashes):
    low, high = -(2**63), 2**63 - 1
    pairs = [*combinations(hashes.values(), 2), (low, high), (-1, 0), (low, 0), (5, 5)]
    expected = [distance(a, b) for a, b in pairs]
    table = np.array(pairs, np.int64)
    assert np.bitwise_count((table[:, 0] ^ table[:, 1]).view(np.uint64)).tolist() == expected
    rows = pa.table({"a": table[:, 0], "b": table[:, 1]})
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.sql("SELECT bit_count(xor(a, b)) FROM rows").fetchall()
    assert [count for (count,) in found] == expected


def test_pixels_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"takes uint8 \[H, W, 3\], not float64 \[8, 8, 3\]"):
        phash(np.zeros((8, 8, 3)))
