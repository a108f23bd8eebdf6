"""Damaged JPEGs on the fast path give a clear failure or the whole picture, never a grey one."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from tests.helpers.encoded import encode_jpeg as encode
from tests.helpers.encoded import failure
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind, ImageError
from transforms.preprocess import Resize

POLICY = DecodePolicy()
COFFEE = Image.open(Path(skimage.__file__).parent / "data/coffee.png").convert("RGB")  # 600x400


@pytest.mark.parametrize(
    "options",
    [{"quality": 75}, {"quality": 85, "progressive": True}, {}],
    ids=["plain", "progressive", "gray"],
)
@pytest.mark.parametrize("kept", [4, 30, 300, 0.3, 0.5, 0.9, -40, -2, -1])
def test_a_truncated_file_is_a_failure_not_grey(options: dict[str, object], kept: float) -> None:
    data = encode(COFFEE if options else COFFEE.convert("L"), **options)
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    assert failure(cut).kind is FailureKind.TRUNCATED


def damaged(data: bytes, at: float, what: bytes) -> bytes:
    start = data.index(b"\xff\xda") + 12
    position = start + int((len(data) - start) * at)
    return data[:position] + what + data[position + len(what) :]


@pytest.mark.parametrize(
    "what",
    [b"\xff\xd9", b"\xff\xff\xff\x15\x00\x04aa", bytes(3000)],
    ids=["early end", "marker", "zeros"],
)
def test_damage_that_libjpeg_reports_is_a_failure(what: bytes) -> None:
    data = damaged(encode(COFFEE, quality=90), 0.4, what)
    # The header is intact.
    assert Image.open(io.BytesIO(data)).size == COFFEE.size
    assert failure(data).kind is FailureKind.CORRUPT


def test_padding_before_the_end_is_tolerated_and_lost_data_is_not() -> None:
    data = encode(COFFEE, quality=90)
    for padding in (b"\0\0\0", bytes(600)):
        padded = data[:-2] + padding + data[-2:]
        assert (decode(padded, POLICY).pixels == decode(data, POLICY).pixels).all()
    assert re.search("extraneous bytes", failure(data[:-2] + b"\x55" * 600 + data[-2:]).message)
    assert re.search(
        "extraneous bytes", failure(data[:-2] + b"\x55" * 600 + bytes(600) + data[-2:]).message
    )
    cut = data[:-3000]
    # Zeros replace the end of the picture.
    for missing in (3000, 100_000):
        assert failure(cut + bytes(missing) + data[-2:]).kind in (
            FailureKind.CORRUPT,
            FailureKind.TRUNCATED,
        )


def test_wrong_scan_parameters_are_tolerated() -> None:
    data = encode(COFFEE)
    # It is 63 in every sequential file, but some encoders write other numbers.
    last_coefficient = data.index(b"\xff\xda") + 12
    assert data[last_coefficient] == 63
    odd = data[:last_coefficient] + b"\x05" + data[last_coefficient + 1 :]
    assert (decode(odd, POLICY).pixels == decode(data, POLICY).pixels).all()


def test_a_harmless_warning_does_not_hide_a_cut() -> None:
    data = encode(COFFEE, icc_profile=bytes(100_000)).replace(
        b"ICC_PROFILE\0\x02", b"ICC_PROFILE\0\x07"
    )
    assert (decode(data, POLICY).pixels == decode(encode(COFFEE), POLICY).pixels).all()
    assert failure(data[:-3000]).kind is FailureKind.TRUNCATED


def test_bytes_after_the_end_are_ignored() -> None:
    data = encode(COFFEE)
    assert (decode(data + data[:5000], POLICY).pixels == decode(data, POLICY).pixels).all()


def frame_byte(data: bytes, offset: int, value: int) -> bytes:
    at = data.index(b"\xff\xc0") + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("offset", "value", "kind", "message"),
    [
        (4, 12, FailureKind.UNSUPPORTED, "JPEG of 12 bits per sample is not read"),
        (1, 0xC3, FailureKind.UNSUPPORTED, r"lossless or hierarchical JPEG \(SOF3\) is not read"),
        (9, 2, FailureKind.UNSUPPORTED, "JPEG of 2 components is not read"),
        (2, 0xF0, FailureKind.TRUNCATED, "JPEG header cut off"),
        (3, 0, FailureKind.CORRUPT, "broken"),
    ],
)
def test_frames_that_are_not_read(offset: int, value: int, kind: FailureKind, message: str) -> None:
    error = failure(frame_byte(encode(COFFEE), offset, value))
    assert re.search(message, error.message)
    assert error.kind is kind


def test_a_picture_without_rows_is_corrupt() -> None:
    error = failure(frame_byte(frame_byte(encode(COFFEE), 5, 0), 6, 0))
    assert (error.kind, error.message) == (FailureKind.CORRUPT, "its header says 600x0 pixels")


def test_a_scan_bomb_is_refused() -> None:
    data = encode(COFFEE.resize((64, 64)), progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[last:-2] * 200 + data[-2:]
    error = failure(bomb)
    assert error.kind is FailureKind.UNSUPPORTED
    assert re.match("JPEG of 2.. scans is not read; at most 100 are", error.message)


@pytest.mark.parametrize("place", ["behind", "comment"])
def test_scans_of_what_is_not_the_picture_do_not_count(place: str) -> None:
    data = encode(COFFEE.resize((64, 64)), progressive=True)
    other = b"\xff\xda\0\x08\1\1\0\0\0\0" * 200
    comment = b"\xff\xfe" + (len(other) + 2).to_bytes(2) + other
    odd = data + b"a video" + other if place == "behind" else data[:2] + comment + data[2:]
    assert (decode(odd, POLICY).pixels == decode(data, POLICY).pixels).all()


def test_no_scan_hides_in_a_segment_that_libjpeg_skips() -> None:
    data = encode(COFFEE.resize((64, 64)), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    hidden = data[:-2] + (b"\xff\x02\xff\xff" + scan) * 200 + data[-2:]
    assert re.match("JPEG of 2.. scans is not read", failure(hidden).message)


def test_threads_do_not_disturb_each_other() -> None:
    good = [encode(COFFEE.crop((0, 0, 600 - 8 * n, 400)), quality=70 + n) for n in range(12)]
    jobs = [data for pair in good for data in (pair, pair[: len(pair) // 2])] * 4
    expected = {data: decode(data, POLICY, (90, 90)).pixels for data in good}

    def outcome(data: bytes) -> np.ndarray | FailureKind:
        try:
            return Resize(90, 90)(decode(data, POLICY, (90, 90)).pixels)
        except ImageError as error:
            return error.kind

    with ThreadPoolExecutor(8) as pool:
        for data, seen in zip(jobs, pool.map(outcome, jobs), strict=True):
            if data in expected:
                assert np.array_equal(seen, Resize(90, 90)(expected[data]))
            else:
                assert seen is FailureKind.TRUNCATED
