"""Files of a few kilobytes whose structure would cost hours or all memory: one failure each, at once."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.helpers.encoded import encode, tiff
from tests.helpers.mutants import originals
from transforms.decode import color
from transforms.decode.avif import coded_pixels
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind, ImageError

POLICY = DecodePolicy()


@pytest.fixture(autouse=True)
def _little_memory():
    """A gigabyte more than the process has now: what asks for more fails, and nothing else does."""
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: PTH123, SIM115
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def failure(data):
    with pytest.raises(ImageError) as caught:
        decode(data, POLICY)
    return caught.value


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(before=b"", after=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    picture = chunk(b"IDAT", zlib.compress(bytes(8 * 9)))
    return b"\x89PNG\r\n\x1a\n" + header + before + picture + after + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"prIv"])
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_png_of_endless_chunks(name, where):
    """Each inflates to Pillow's own limit of 1 MB; without a key none of them counts for its limit of 64 MB in all."""
    one = chunk(name, b"\0\0" + zlib.compress(bytes(1 << 20), 9))
    error = failure(png(**{where: one * 300}))
    assert error.kind is FailureKind.UNSUPPORTED
    assert "more than 256 chunks besides its picture" in error.message
    assert decode(png(**{where: one * 3}), POLICY).pixels.shape == (8, 8, 3)


def test_a_png_in_very_many_pieces_is_read():
    """Encoders that write one small chunk for each row."""
    rows = zlib.compress(bytes(5000 * 9), 0)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 5000, 8, 0, 0, 0, 0))
    pieces = b"".join(chunk(b"IDAT", rows[at : at + 3]) for at in range(0, len(rows), 3))
    data = b"\x89PNG\r\n\x1a\n" + header + pieces + chunk(b"IEND", b"")
    assert decode(data, POLICY).pixels.shape == (5000, 8, 3)


def test_a_gif_of_an_endless_comment():
    """Pillow joins its blocks one by one: 8 MB took 2 s, and 100 MB five minutes."""
    data = originals()["gif"]
    at = data.index(b"\x2c\0\0\0\0")
    error = failure(data[:at] + b"!\xfe" + (b"\xff" + b"x" * 255) * 20_000 + b"\0" + data[at:])
    assert (error.kind, error.message) == (
        FailureKind.UNSUPPORTED, "not read for safety: it has too many pieces; save the picture anew")  # fmt: skip


def rle_bmp(width, height, body):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(info) + 1024
    return (
        b"BM"
        + struct.pack("<IHHI", start + len(body), 0, 0, start)
        + info
        + bytes(range(256)) * 4
        + body
    )


def test_a_bmp_that_jumps():
    """One jump of two bytes makes 255 rows of 10 million pixels."""
    error = failure(rle_bmp(10_000_000, 1, b"\0\2\xff\xff\0\1"))
    assert error.kind is FailureKind.UNSUPPORTED
    assert "run-length encoded BMP of 10000000x1 pixels" in error.message


def test_a_bmp_that_stands_still():
    """Runs behind the end of a row make no pixel; the file would be read to its end, two bytes at a time."""
    assert "too many pieces" in failure(rle_bmp(4, 4, b"\x09\0" * 5_000_000)).message


def test_an_ordinary_run_length_encoded_bmp_is_read():
    with Image.open(io.BytesIO(originals()["rle.bmp"])) as image:
        assert np.array_equal(
            decode(originals()["rle.bmp"], POLICY).pixels, np.asarray(image.convert("RGB"))
        )


def tiff_of(entries, data=b"", big=False):
    """A TIFF of 64x64 gray pixels with more entries: (tag, type, count, value or offset); its data start at byte 16."""
    base = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 16),
            (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, 4096)]  # fmt: skip
    data = data.ljust(4096, b"\0")
    rows = sorted({entry[0]: entry for entry in [*base, *entries]}.values())
    if big:
        table = (
            struct.pack("<Q", len(rows))
            + b"".join(struct.pack("<HHQQ", *row) for row in rows)
            + bytes(8)
        )
        return b"II+\0\x08\0\0\0" + struct.pack("<Q", 16 + len(data)) + data + table
    table = (
        struct.pack("<H", len(rows))
        + b"".join(struct.pack("<HHII", *row) for row in rows)
        + bytes(4)
    )
    return b"II*\0" + struct.pack("<I", 16 + len(data)) + bytes(8) + data + table


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_whose_tags_all_claim_the_whole_file(big):
    claims = [(tag, 7, 4 << 20, 16) for tag in range(40_000, 40_900)]
    error = failure(tiff_of(claims, bytes(4 << 20), big))
    assert error.kind is FailureKind.CORRUPT
    assert "its tags claim 3774873600 of its" in error.message


@pytest.mark.parametrize("tag", [34665, 34853])
def test_a_tiff_whose_exif_does(tag):
    claims = b"".join(
        struct.pack("<HHII", number, 7, 4 << 20, 16) for number in range(40_000, 40_900)
    )
    data = struct.pack("<H", 900) + claims + bytes(4 << 20)
    assert "its tags claim" in failure(tiff_of([(tag, 4, 1, 16)], data)).message


def test_a_tiff_of_endless_tags_or_values():
    assert (
        "a directory of 1025 entries"
        in failure(tiff_of([(tag, 1, 1, 0) for tag in range(30_000, 32_000)])).message
    )
    many = tiff_of([(273, 4, 2 << 20, 16), (279, 4, 2 << 20, 16)], bytes(32 << 20))
    assert "tag 273 with 2097152 values" in failure(many).message


def test_a_tiff_of_a_tile_larger_than_all_limits():
    error = failure(
        tiff_of([(322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 16), (325, 4, 1, 99)])
    )
    assert error.kind is FailureKind.TOO_MANY_PIXELS
    assert "its tiles have 60000x60000 pixels" in error.message


def test_a_tiff_of_a_jpeg_with_endless_scans():
    picture = encode(Image.new("RGB", (2000, 1500)), "JPEG", progressive=True)
    scans = picture[picture.rindex(b"\xff\xda") : -2] * 900
    data = picture[:-2] + scans
    sides = [(256, 4, 1, 2000), (257, 4, 1, 1500), (278, 4, 1, 1500), (259, 3, 1, 7)]
    for size in (len(data), 0):  # how long the strip says it is
        assert (
            "progressive JPEGs with 9"
            in failure(tiff_of([*sides, (279, 4, 1, size)], data)).message
        )
    assert (
        failure(tiff_of([*sides, (279, 4, 1, 4096)], data)).kind is FailureKind.CORRUPT
    )  # no more of it is read


def test_a_tiff_of_one_jpeg_that_all_tiles_share():
    """Written once, its scans are done for each tile; a sequential JPEG has them too."""
    gray = encode(Image.new("L", (1024, 1024)), "JPEG")
    data = gray[:-2] + gray[gray.rindex(b"\xff\xda") : -2] * 60
    tiles = struct.pack("<64I", *[16] * 64) + struct.pack("<64I", *[len(data)] * 64)
    entries = [(256, 4, 1, 8192), (257, 4, 1, 8192), (259, 3, 1, 7), (322, 4, 1, 1024), (323, 4, 1, 1024),
               (324, 4, 64, 16 + len(data)), (325, 4, 64, 16 + len(data) + 256)]  # fmt: skip
    assert "JPEGs with 3904 scans" in failure(tiff_of(entries, data + tiles)).message


def test_tiffs_of_very_many_pieces_are_read():
    pixels = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), np.uint8)
    for options in (
        {"tile": (16, 16)},
        {"rowsperstrip": 1},
        {"tile": (16, 16), "compression": "zlib"},
    ):
        assert np.array_equal(
            decode(tiff(pixels, photometric="rgb", **options), POLICY).pixels, pixels
        )


def test_an_avif_does_not_have_its_exif_read():
    """Pillow's plugin would read all of its entries."""
    claims = b"".join(
        struct.pack("<HHII", number, 7, 1 << 20, 8) for number in range(0x9000, 0x9000 + 900)
    )
    block = (
        b"II*\0"
        + struct.pack("<I", 8 + (1 << 20))
        + bytes(1 << 20)
        + struct.pack("<H", 900)
        + claims
        + bytes(4)
    )
    plain = originals()["avif"]
    decoded = decode(_with_longer_exif(plain, block), POLICY)
    assert np.array_equal(decoded.pixels, decode(plain, POLICY).pixels)


def _with_longer_exif(data, block):
    """The AVIF with another EXIF item, whose bytes come at the end of the file's last box."""
    start = data.index(b"MM\0*") - len(b"0000Exif\0\0")
    mdat = data.index(b"mdat") - 4
    out = bytearray(data) + bytes(4) + block
    place = data.index(
        struct.pack(">I", start),
        data.index(b"iloc"),
        # Where the item begins, and its length
    )
    struct.pack_into(">II", out, place, len(data), 4 + len(block))
    struct.pack_into(">I", out, mdat, len(out) - mdat)
    return bytes(out)


def test_an_avif_of_endless_items():
    data = bytearray(originals()["avif"])
    at = data.index(b"iinf") + 4
    # The version, whose count has two bytes
    assert data[at] == 0
    struct.pack_into(">H", data, at + 4, 60_000)
    assert "AVIF of 60000 items" in failure(bytes(data)).message


def hidden(side):
    """An AVIF of a few hundred bytes whose header says 64x64, and which a decoder scales to that in the end."""
    data = bytearray(encode(Image.new("RGB", (side, side)), "AVIF", speed=10))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, 64, 64)
    return bytes(data)


def test_an_avif_that_holds_more_pixels_than_it_says():
    assert decode(hidden(1000), DecodePolicy(max_pixels=500_000)).width == 64
    with pytest.raises(
        ImageError, match="its pictures, shown or not, have 1000000 pixels; at most 900000"
    ) as caught:
        decode(hidden(1000), DecodePolicy(max_pixels=300_000))
    assert caught.value.kind is FailureKind.TOO_MANY_PIXELS


def test_what_an_avif_comes_to():
    """By its items, and as an animation by its first picture too, whose size is known to the next power of two."""
    photo = Image.new("RGB", (300, 200))
    assert coded_pixels(originals()["avif"]) == 140 * 90
    assert coded_pixels(originals()["alpha.avif"]) == 2 * 140 * 90
    assert (
        coded_pixels(encode(photo, "AVIF", save_all=True, append_images=[photo])) == 2 * 512 * 256
    )


def test_frames_of_an_avif_that_are_never_shown_count():
    """The same frame again and again, and a picture made of so many units that nobody counts."""
    data = encode(Image.new("RGB", (300, 200)), "AVIF")
    start = data.index(b"mdat") + 4
    assert coded_pixels(with_more(data, data[start:])) == 2 * 300 * 200
    with pytest.raises(ValueError, match="more than 16384 pieces"):
        coded_pixels(with_more(data, b"\x7a\0" * 20_000))  # padding of no length


def with_more(data, more):
    """The AVIF with bytes after its picture, which is the last thing in the file."""
    out = bytearray(data) + more
    start = data.index(b"mdat") + 4
    place = data.index(struct.pack(">II", start, len(data) - start), data.index(b"iloc"))
    struct.pack_into(">I", out, place + 4, len(out) - start)
    struct.pack_into(">I", out, start - 8, len(out) - start + 8)
    return bytes(out)


@pytest.mark.parametrize(("side", "most"), [(1000, 100), (8000, 31)])
def test_the_scans_of_a_jpeg_are_limited_by_its_size(side, most):
    data = encode(Image.new("L", (side, side)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    error = failure(data[:-2] + scan * (most + 1 - data.count(b"\xff\xda")) + data[-2:])
    assert (
        error.message
        == f"JPEG of {most + 1} scans is not read; at most {most} are at {side * side} pixels"
    )
    assert decode(data, POLICY, (224, 224)).width == side


def test_a_jpeg_of_endless_segments():
    data = originals()["jpg"]
    assert (
        failure(data[:2] + b"\xff\xfe\0\2" * 5000 + data[2:]).message
        == "JPEG of more than 4096 segments is not read"
    )


def profile(steps, more=b""):
    """The sRGB profile with a pipeline of floating-point matrices besides."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = int.from_bytes(icc[128:132])
    tags = [struct.unpack_from(">4sII", icc, 132 + 12 * number) for number in range(count)]
    matrix = b"matf" + struct.pack(">IHH12f", 0, 3, 3, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0)
    place = struct.pack(">II", 16 + 8 * steps, len(matrix))
    pipeline = b"mpet" + struct.pack(">IHHI", 0, 3, 3, steps) + place * steps + matrix
    values = [(name, icc[start : start + size]) for name, start, size in tags]
    values += [(name, pipeline) for name in (b"D2B0", b"D2B1")]
    table, blob = b"", b""
    for name, value in values:
        table += struct.pack(">4sII", name, 132 + 12 * len(values) + len(blob), len(value))
        blob += value + bytes(-len(value) % 4)
    body = (
        icc[4:8]
        + b"\x04\x30\0\0"
        + icc[12:128]
        + struct.pack(">I", len(values))
        + table
        + blob
        + more
    )
    return struct.pack(">I", 4 + len(body)) + body


def test_a_profile_of_endless_steps_takes_no_step(monkeypatch):
    """Each of them would swap red and green, for each of 36,000 colors: this many take a quarter of an hour."""
    assert decode(
        encode(Image.new("RGB", (9, 9), "red"), "JPEG", quality=100, icc_profile=profile(65_001)),
        POLICY,
    )
    photo = Image.new("RGB", (9, 9), (250, 20, 20))
    data = encode(photo, "PNG", icc_profile=profile(1))
    assert np.abs(decode(data, POLICY).pixels[0, 0].astype(int) - (250, 20, 20)).max() <= 1
    monkeypatch.setattr(color, "_FLOAT_TAGS", ())
    color._built_transform.cache_clear()
    assert (
        np.abs(decode(data, POLICY).pixels[0, 0].astype(int) - (250, 20, 20)).max() > 100
    )  # it would be followed
    color._built_transform.cache_clear()


def test_a_huge_profile_is_ignored_and_not_kept():
    color._built_transform.cache_clear()
    data = encode(Image.new("RGB", (9, 9)), "JPEG", icc_profile=profile(1, bytes(5 << 20)))
    assert decode(data, POLICY).pixels.shape == (9, 9, 3)
    assert color._built_transform.cache_info().currsize == 0
