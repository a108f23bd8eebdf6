"""Detect the format of a file by its content, never by its name."""

from __future__ import annotations

import re
from collections.abc import Callable

from transforms.decode.markers import jpeg_stops_early
from transforms.decode.tiff import tiff_stops_early
from transforms.errors import FailureKind, ImageError

# Offset, bytes at this offset, and the format's name in Pillow.
_READABLE = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
)
_KNOWN_BUT_NOT_READ = (
    (0, b"8BPS", "a Photoshop document (PSD)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\x01\0", "a Windows icon (ICO)"),
    (0, b"\0\0\x02\0", "a Windows cursor (CUR)"),
    (0, b"icns", "an Apple icon (ICNS)"),
    (0, b"DDS ", "a DirectDraw surface (DDS)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "a Radiance picture (HDR)"),
    (0, b"gimp xcf", "a GIMP document (XCF)"),
    (0, b"AT&TFORM", "DjVu"),
    (128, b"DICM", "DICOM"),
)
# A text may start with "BM" too, so the size of the header has to be valid as well.
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
_HEIF_BRANDS = {
    b"heic",
    b"heix",
    b"hevc",
    b"hevx",
    b"heim",
    b"heis",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
}


def image_format(data: bytes) -> str:
    """Return the format of an encoded image: JPEG, PNG, GIF, BMP, TIFF, WEBP or AVIF.

    Raises:
        ImageError: ``unsupported``, with the name of the type, for a known type that is not read;
            ``not_an_image`` for everything else.
    """
    for offset, magic, name in _READABLE:
        if data.startswith(magic, offset):
            return name
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if data[4:8] == b"ftyp" and _brands(data) & {b"avif", b"avis"}:
        return "AVIF"
    unread = _unread_kind(data)
    if unread:
        raise ImageError(
            "decode", FailureKind.UNSUPPORTED, f"{unread} is not read; convert it to JPEG or PNG"
        )
    raise ImageError(
        "decode", FailureKind.NOT_AN_IMAGE, f"starts with {data[:12]!r}, which no image does"
    )


def _unread_kind(data: bytes) -> str | None:
    for offset, magic, name in _KNOWN_BUT_NOT_READ:
        if data.startswith(magic, offset):
            return name
    if data[4:8] == b"ftyp":
        brands = _brands(data)
        if brands & _HEIF_BRANDS:
            return "HEIC"
        return "a Canon raw file (CR3)" if b"crx " in brands else None
    if re.match(rb"P[1-6]\s+[#\d]|P7\s", data):
        return "a netpbm picture (PNM)"
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<svg") or (
        text.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text
    ):
        return "an SVG drawing"
    return None


def _brands(data: bytes) -> set[bytes]:
    """Return major and compatible brands of an ISO media file (ISO/IEC 14496-12, box ``ftyp``)."""
    end = min(int.from_bytes(data[:4]), len(data), 256)
    return {data[8:12]} | {data[at : at + 4] for at in range(16, end, 4)}


def _png_stops_early(data: bytes) -> bool:
    at = 8
    while at + 8 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return False
        at += 12 + int.from_bytes(data[at : at + 4])
    return True


def _avif_stops_early(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        # The box reaches up to the end of the file.
        if size == 0:
            return False
        at += max(size, 8)
    return at != len(data)


_STOPS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "JPEG": jpeg_stops_early,
    "PNG": _png_stops_early,
    "GIF": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "BMP": lambda data: int.from_bytes(data[2:6], "little") > len(data),
    "WEBP": lambda data: int.from_bytes(data[4:8], "little") + 8 > len(data),
    "TIFF": tiff_stops_early,
    "AVIF": _avif_stops_early,
}


def stops_early(data: bytes, name: str) -> bool:
    """Tell whether a file of format ``name`` ends before its end mark or its stated size."""
    return _STOPS_EARLY[name](data)
