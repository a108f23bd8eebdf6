"""Files that are no picture, cut off or malicious give one failure each, and never a crash."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from tests.helpers.encoded import encode, failure, png_chunk, tiff
from transforms.decode.exif import exif_orientation
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import FailureKind, ImageError

POLICY = DecodePolicy()
SAMPLES = Path(skimage.__file__).parent / "data"
PHOTO = Image.open(SAMPLES / "coffee.png").convert("RGB").resize((180, 120))


def iso(*brands: bytes) -> bytes:
    box = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 4 + len(box)) + box + bytes(100)


UNSUPPORTED = {
    "a Photoshop document (PSD)": b"8BPS\0\x01" + bytes(100),
    "a PDF document": b"%PDF-1.7\n" + bytes(100),
    "PostScript (EPS)": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "JPEG 2000": encode(PHOTO, "JPEG2000"),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
    "a Windows icon (ICO)": encode(PHOTO, "ICO"),
    "an Apple icon (ICNS)": encode(PHOTO.resize((32, 32)), "ICNS"),
    "a DirectDraw surface (DDS)": encode(PHOTO, "DDS"),
    "a netpbm picture (PNM)": encode(PHOTO, "PPM"),
    "an SVG drawing": b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "HEIC": iso(b"mif1", b"heic", b"miaf"),
    "a Canon raw file (CR3)": iso(b"crx ", b"isom"),
    "DICOM": bytes(128) + b"DICM" + bytes(100),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_image_type_that_is_not_read_is_named(name: str) -> None:
    error = failure(UNSUPPORTED[name])
    assert error.kind is FailureKind.UNSUPPORTED
    assert error.message == f"{name} is not read; convert it to JPEG or PNG"


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html>404",
        b"BM is how this text starts, and nothing more",
        b"P1 is no netpbm",
        b"RIFF\x10\0\0\0WAVEfmt ",
        iso(b"isom", b"mp42"),
        b"\x89PN",
        b"\xff\xd8",
        b"x",
        bytes(5000),
        np.random.default_rng(0).bytes(5000),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_anything_else_is_not_an_image(data: bytes) -> None:
    error = failure(data)
    assert error.kind is FailureKind.NOT_AN_IMAGE
    assert error.message == f"starts with {data[:12]!r}, which no image does"


def test_postscript_does_not_start_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", started)
    assert failure(encode(PHOTO, "EPS")).kind is FailureKind.UNSUPPORTED


FILES = {
    "png": encode(PHOTO, "PNG"),
    "png palette": encode(PHOTO.quantize(), "PNG"),
    "gif": encode(PHOTO, "GIF"),
    "bmp": encode(PHOTO, "BMP"),
    "bmp palette": encode(PHOTO.quantize(), "BMP"),
    "tiff": encode(PHOTO, "TIFF"),
    "tiff lzw": encode(PHOTO, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encode(PHOTO, "TIFF", compression="jpeg"),
    "tiff deflate, header first": tiff(np.asarray(PHOTO), photometric="rgb", compression="zlib"),
    "bigtiff": tiff(np.asarray(PHOTO), photometric="rgb", bigtiff=True),
    "webp": encode(PHOTO, "WEBP"),
    "webp lossless": encode(PHOTO, "WEBP", lossless=True),
    "webp animated": encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)]),
    "avif": encode(PHOTO, "AVIF"),
    "jpeg": encode(PHOTO, "JPEG"),
    "jpeg progressive": encode(PHOTO, "JPEG", progressive=True),
    "jpeg cmyk": encode(PHOTO.convert("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("kept", [16, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_told_from_a_corrupt_one(name: str, kept: float) -> None:
    data = FILES[name]
    cut = data[: int(kept * len(data)) if isinstance(kept, float) else kept]
    assert failure(cut).kind is FailureKind.TRUNCATED


@pytest.mark.parametrize("name", ["png", "gif", "tiff lzw", "tiff deflate, header first", "jpeg"])
def test_a_file_with_a_hole_is_corrupt(name: str) -> None:
    data = FILES[name]
    middle = len(data) // 2
    damaged = data[:middle] + b"\xa5" * 200 + data[middle + 200 :]
    assert failure(damaged).kind is FailureKind.CORRUPT


@pytest.mark.parametrize("name", FILES)
def test_random_damage_gives_a_picture_or_a_failure(name: str) -> None:
    rng = np.random.default_rng(0)
    data = FILES[name]
    failures = []
    for _ in range(60):
        broken = bytearray(data)
        start = int(rng.choice([4, len(data) // 2]))
        for _ in range(int(rng.integers(1, 12))):
            broken[int(rng.integers(start, min(start + 400, len(data))))] = int(rng.integers(256))
        try:
            image = decode(bytes(broken), DecodePolicy(max_pixels=4_000_000), (56, 56))
        except ImageError as error:
            failures.append(error)
        else:
            assert image.pixels.dtype == np.uint8
            assert image.pixels.shape[2:] == (3,)
    # Little can be broken in raw pixels.
    assert failures or name.startswith("bmp")
    assert not any(error.kind.transient or "\n" in error.message for error in failures)


def png(width: int, height: int, chunks: bytes, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + png_chunk(b"IEND", b"")


def test_a_png_bomb_costs_nothing() -> None:
    bomb = png(100_000, 100_000, png_chunk(b"IDAT", zlib.compress(bytes(20_000_000))), depth=1)
    assert len(bomb) < 30_000
    error = failure(bomb)
    assert error.kind is FailureKind.TOO_MANY_PIXELS
    assert error.message == "100000x100000 is 10000000000 pixels; at most 100000000 are read"


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_a_compressed_chunk_bomb_is_not_inflated(name: bytes, where: str) -> None:
    prefix = b"x\0\x01\0\0\0" if name == b"iTXt" else b"x\0\0"
    bomb = png_chunk(name, prefix + zlib.compress(bytes(20_000_000), 9))
    picture = png_chunk(b"IDAT", zlib.compress(bytes(8 * 9)))
    data = png(8, 8, bomb + picture if where == "before" else picture + bomb)
    tracemalloc.start()
    try:
        pixels = decode(data, POLICY).pixels
        # The metadata inflate to 20 million bytes.
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()
    assert (pixels == decode(png(8, 8, picture), POLICY).pixels).all()


@pytest.mark.parametrize("values", [2**31, 2**21])
def test_an_exif_block_of_endless_values_costs_nothing(values: int) -> None:
    # An orientation of millions of values.
    entry = struct.pack(">HHII", 0x0112, 3, values, 10 + 12 * 65535)
    block = b"MM\0*" + struct.pack(">IH", 8, 65535) + entry * 65535 + b"\0\x06" * 2**21
    picture = png_chunk(b"IDAT", zlib.compress(bytes(8 * 9)))
    assert exif_orientation(block) == 1
    assert decode(png(8, 8, png_chunk(b"eXIf", block) + picture), POLICY).pixels.shape == (8, 8, 3)


def test_a_gif_whose_frame_outgrows_its_screen() -> None:
    data = bytearray(encode(PHOTO.quantize(4), "GIF"))
    frame = data.index(b"\x2c\0\0\0\0")
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65535, 65535)  # the screen stays 180x120
    assert failure(bytes(data)).kind is FailureKind.TOO_MANY_PIXELS


def test_a_bigtiff_that_points_behind_all_memory() -> None:
    assert failure(b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(100)).kind is FailureKind.TRUNCATED


def test_tiffs_that_pillow_would_misread() -> None:
    planes = np.asarray(PHOTO.convert("CMYK")).transpose(2, 0, 1).astype(np.uint16) * 257
    assert (
        "16-bit planes"
        in failure(tiff(planes, photometric="separated", planarconfig="separate")).message
    )
    thumbnail = failure(tiff(np.asarray(PHOTO), photometric="rgb", subfiletype=1))
    assert "whose first picture is a thumbnail" in thumbnail.message
    assert thumbnail.kind is FailureKind.UNSUPPORTED


def test_a_tiff_that_pillow_does_not_know() -> None:
    error = failure((SAMPLES / "multipage_rgb.tif").read_bytes())
    assert (error.kind, error.message) == (FailureKind.UNSUPPORTED, "TIFF: unknown pixel mode")
    error = failure(tiff(np.asarray(PHOTO).astype(np.float32), photometric="rgb"))
    assert error.kind is FailureKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        # The image may be valid: it is retried.
        (MemoryError(), FailureKind.IO_ERROR),
        (Image.DecompressionBombError("tile"), FailureKind.TOO_MANY_PIXELS),
        (Image.DecompressionBombWarning("tile"), FailureKind.TOO_MANY_PIXELS),
        (OSError("broken data stream\nwhen reading"), FailureKind.CORRUPT),
        (struct.error("unpack"), FailureKind.CORRUPT),
        (zlib.error("incorrect header check"), FailureKind.CORRUPT),
        (OverflowError("too large to convert"), FailureKind.CORRUPT),
        (EOFError(), FailureKind.CORRUPT),
        (KeyError("no tag"), FailureKind.CORRUPT),
        (TypeError("x" * 1000), FailureKind.CORRUPT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_decoder_raises_is_one_failure(
    raised: Exception, kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise raised

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    error = failure(FILES["png"])
    assert error.kind is kind
    assert error.__cause__ is raised
