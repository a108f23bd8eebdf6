"""JPEG: a marker scan for what must be known first, then libjpeg-turbo, scaled where that is exact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import JpegImagePlugin

from transforms.decode.exif import exif_orientation
from transforms.decode.markers import END, SCAN, markers, scan_count
from transforms.decode.structure import PatientFile
from transforms.errors import FailureKind, ImageError

# SOF0 to SOF15; the three are DHT, JPG and DAC
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_READ_FRAMES = {
    0xC0,
    0xC1,
    0xC2,
    0xC9,
    0xCA,
    # Baseline, extended, progressive; Huffman or arithmetic
}
_PROGRESSIVE_FRAMES = {0xC2, 0xCA}
# Markers without a segment, and an escaped 0xFF
_ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}
_STRAY_BEFORE_END = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
# Encoders write about ten; each one costs a pass over the whole picture
_MAX_SCANS = 100
# Pixels times scans: 20 passes over 100 megapixels
_MAX_SCANNED = 2_000_000_000
_MAX_SEGMENTS = (
    # Before the first scan; real files have less than 100, and 1,600 with 100 MB of metadata
    4096
)

# Scaled decoding: how far it may depart from full decoding, see docs/decoding.md for the
# measurements. The ones that libjpeg-turbo does with SIMD
_FACTORS = (8, 4, 2)
_OVERSAMPLING = 2
_MAX_STRETCH = 1 / 8  # of a pixel of the network's input

_LEFT_TO_PILLOW = re.compile(
    # Samplings that TurboJPEG has no name for, 3x1 for example
    r".*Could not determine subsampling"
    # padding; more is lost picture
    r"|Corrupt JPEG data: (?:\d|1[0-6]) extraneous bytes before marker"
    r"|Corrupt JPEG data: bad ICC marker"
    r"|Invalid SOS parameters for sequential JPEG"
    r"|Unknown Adobe color transform code"
    r"|Warning: unknown JFIF revision"
)


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the markers before the first scan say."""

    height: int  # as stored
    width: int
    # 1 grayscale, 3 color, 4 CMYK or YCCK
    components: int
    orientation: int  # EXIF, 1 to 8
    icc: bytes | None  # the embedded profile, whole


def read_header(data: bytes) -> JpegHeader:
    """Scan the markers up to the first scan: 10 µs, where Pillow's header takes 25 to 75 µs.

    Raises:
        ImageError: ``truncated`` or ``corrupt``; ``unsupported`` for lossless and 12-bit files, and
            for more scans or segments than a real file has.
    """
    frame: tuple[int, bytes] | None = None
    exif, chunks, first_scan = b"", [], b""
    for number, (marker, segment) in enumerate(_segments(data)):
        if number > _MAX_SEGMENTS:
            raise ImageError(
                "decode",
                FailureKind.UNSUPPORTED,
                f"JPEG of more than {_MAX_SEGMENTS} segments is not read",
            )
        if marker in _FRAMES:
            frame = (marker, segment)
        elif marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif = exif or segment  # the first one counts
        elif marker == 0xE2 and segment.startswith(b"ICC_PROFILE\0"):
            chunks.append(segment)
        first_scan = segment
    if frame is None or len(frame[1]) < 6 or not first_scan:
        raise ImageError("decode", FailureKind.CORRUPT, "JPEG without a whole frame header")
    kind, segment = frame
    components = segment[5]
    _refuse_unread(kind, precision=segment[0], components=components)
    height, width = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
    if kind in _PROGRESSIVE_FRAMES or first_scan[0] < components:
        _refuse_scan_bomb(data, width * height)
    return JpegHeader(height, width, components, exif_orientation(exif), _joined_profile(chunks))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers with their segments, the first start of scan being the last one (ITU-T T.81, annex B)."""
    at = 2
    while True:
        at = data.find(0xFF, at)
        if at < 0 or at + 4 > len(data):
            raise ImageError(
                "decode", FailureKind.TRUNCATED, f"JPEG header cut off at byte {len(data)}"
            )
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        start, end = at + 4, at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if end < start or marker == 0xD9:
            raise ImageError(
                "decode", FailureKind.CORRUPT, f"JPEG marker 0x{marker:02x} at byte {at} is broken"
            )
        if end > len(data):
            raise ImageError(
                "decode", FailureKind.TRUNCATED, f"JPEG header cut off at byte {len(data)}"
            )
        yield marker, data[start:end]
        if marker == SCAN:
            return
        at = end


def _refuse_unread(kind: int, precision: int, components: int) -> None:
    seen = None
    if kind not in _READ_FRAMES:
        seen = f"lossless or hierarchical JPEG (SOF{kind - 0xC0})"
    elif precision != 8:
        seen = f"JPEG of {precision} bits per sample"
    elif components not in (1, 3, 4):
        seen = f"JPEG of {components} components"
    if seen:
        raise ImageError(
            "decode", FailureKind.UNSUPPORTED, f"{seen} is not read; 8 bits and 1, 3 or 4 are"
        )


def _refuse_scan_bomb(data: bytes, pixels: int) -> None:
    scans = scan_count(data)
    most = min(_MAX_SCANS, _MAX_SCANNED // max(pixels, 1))
    if scans > most:
        message = f"JPEG of {scans} scans is not read; at most {most} are at {pixels} pixels"
        raise ImageError("decode", FailureKind.UNSUPPORTED, message)


def _without_zeros(data: bytes) -> bytes | None:
    """The JPEG without zeros before its end marker; None if there are none."""
    end = next((place for marker, place in markers(data) if marker == END), 0)
    picture = data[:end].rstrip(b"\0")
    if picture.endswith(b"\xff"):  # an escaped one of the picture's
        picture += b"\0"
    return picture + data[end:] if len(picture) < end else None


def _joined_profile(chunks: list[bytes]) -> bytes | None:
    """Join the ICC profile from its APP2 chunks, each numbered n of m; None without one, or without all."""
    parts = {chunk[12]: chunk[14:] for chunk in chunks if len(chunk) > 14}
    total = chunks[0][13] if parts and len(chunks[0]) > 14 else 0
    if not total or sorted(parts) != list(range(1, total + 1)):
        return None
    return b"".join(parts[number] for number in sorted(parts))


def scale_for(header: JpegHeader, target: tuple[int, int] | None) -> int:
    """Choose the largest divisor 8, 4, 2 or 1 at which decoding still gives the network the same picture.

    Both scaled sides stay at least twice ``target`` (height, width of the upright picture), and the
    partly filled last row or column, which scaled decoding rounds up, moves no pixel of the
    network's input by more than 1/8.
    """
    if target is None:
        return 1
    wanted = target[::-1] if header.orientation >= 5 else target
    sides = tuple(zip((header.height, header.width), wanted, strict=True))
    return next((factor for factor in _FACTORS if all(_scales(*side, factor) for side in sides)), 1)


def _scales(side: int, wanted: int, factor: int) -> bool:
    scaled = -(-side // factor)
    return (
        scaled >= _OVERSAMPLING * wanted
        and (scaled * factor - side) * wanted <= _MAX_STRETCH * side
    )


def decode_pixels(data: bytes, header: JpegHeader, scale: int) -> np.ndarray:
    """Pixels uint8 [H / scale, W / scale, 3] in RGB, or [.., .., 4] in CMYK with 0 for no ink.

    CMYK values are inverted as Adobe writes them, marker or not: so do Pillow and the browsers.

    Raises:
        ImageError: ``truncated`` where the data end, ``corrupt`` where libjpeg reports damage: it
            would fill the rest with grey.
    """
    options: dict[str, object] = {"colorspace": "CMYK" if header.components == 4 else "RGB"}
    if scale > 1:
        options |= {
            "min_height": -(-header.height // scale),
            "min_width": -(-header.width // scale),
        }
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, **options)
    except ValueError as error:
        seen = str(error)
        if _LEFT_TO_PILLOW.match(seen):
            return _decode_with_pillow(data)
        if _STRAY_BEFORE_END.match(seen) and (unpadded := _without_zeros(data)):
            return decode_pixels(
                unpadded,
                header,
                scale,
                # Strict again: whatever else is stray is lost picture
            )
        kind = FailureKind.TRUNCATED if seen.startswith("Premature end") else FailureKind.CORRUPT
        raise ImageError("decode", kind, f"JPEG: {seen}") from error
    return 255 - pixels if header.components == 4 else pixels


def _decode_with_pillow(data: bytes) -> np.ndarray:
    """Decode in full what TurboJPEG refuses for no reason of the picture's.

    Pillow still sees truncation, but not damage in the middle.
    """
    with JpegImagePlugin.JpegImageFile(PatientFile(data, "JPEG")) as image:
        return np.asarray(image.convert("RGB") if image.mode == "L" else image)
