"""Decode bytes to pixels (uint8 RGB, upright, sRGB); docs/decoding.md describes the policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from transforms.choices import MAX_IMAGE_BYTES, MAX_PIXELS
from transforms.decode import jpeg, png, tiff_kinds
from transforms.decode.color import keeps_colors, to_srgb
from transforms.decode.exif import exif_orientation, upright
from transforms.decode.quiet import quiet_pillow
from transforms.decode.sniff import image_format, stops_early
from transforms.decode.structure import PatientFile, check_structure
from transforms.errors import FailureKind, ImageError

# These classes are called directly instead of Image.open. So no other plugin can be reached (EPS
# would start ghostscript), the reason of a refusal is kept, and Pillow's global pixel limit does
# not apply. PNG and AVIF have their own functions.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
# By number of components.
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
# Words in Pillow's messages about valid files that it cannot read.
_UNREAD_WORDS = (
    "unknown",
    "unsupported",
    "not supported",
    "cannot handle",
    "not installed",
    "not available",
)


@dataclass(frozen=True)
class DecodePolicy:
    """Limits that are checked before decoding.

    ``transforms.decode.structure`` limits everything in a file besides its pixels. Decoding takes
    3 to 11 bytes of memory per pixel at its peak (WebP 16), so 1 GB (1.6 GB) for ``max_pixels``.
    """

    max_bytes: int = MAX_IMAGE_BYTES
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded picture; ``format``, ``width`` and ``height`` describe the file."""

    # uint8 [H, W, 3], sRGB, upright, C-contiguous, maybe read-only.
    pixels: np.ndarray
    # AVIF, BMP, GIF, JPEG, PNG, TIFF or WEBP, by content.
    format: str
    # As stored: before the EXIF orientation and before scaled decoding.
    width: int
    height: int
    # Height and width of the upright picture, if a scaled decoding made ``pixels`` smaller.
    whole: tuple[int, int] | None = None


def decode(
    data: bytes, policy: DecodePolicy, target: tuple[int, int] | None = None
) -> DecodedImage:
    """Decode the first frame of an image.

    Safe to call from many threads; the codecs release the GIL.

    Args:
        data: The whole encoded file.
        policy: The limits.
        target: (height, width) of the network's input. A large JPEG is then decoded at 1/2, 1/4 or
            1/8 if that gives the network the same picture (``jpeg.scale_for``). None decodes at
            full size.

    Raises:
        ImageError: Stage ``decode``, with the kind of failure and a message of one line.
    """
    quiet_pillow()
    if not data:
        raise ImageError("decode", FailureKind.EMPTY, "0 bytes")
    if len(data) > policy.max_bytes:
        message = f"{len(data)} bytes; at most {policy.max_bytes} are read"
        raise ImageError("decode", FailureKind.TOO_LARGE, message)
    name = image_format(data)
    try:
        if name == "JPEG":
            return _decode_jpeg(data, policy, target)
        check_structure(data, name, policy.max_pixels)
        if name == "PNG":
            return _decode_png(data, policy)
        return _decode_avif(data, policy) if name == "AVIF" else _decode_other(data, name, policy)
    except ImageError:
        raise
    except Exception as error:
        # A decoder may raise anything on hostile bytes.
        raise _as_image_error(error, data, name) from error


def scales_of(data: bytes, targets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the divisor at which ``decode`` decodes for each target: 1, or more for a large JPEG.

    Args:
        data: The whole encoded file.
        targets: Heights and widths of networks' inputs.
    """
    if len(set(targets)) == 1:
        # One decoding serves all, at whatever scale.
        return [1] * len(targets)
    try:
        if image_format(data) != "JPEG":
            return [1] * len(targets)
        header = jpeg.read_header(data)
    except Exception:
        # Decoding fails in the same way, whatever the target.
        return [1] * len(targets)
    return [jpeg.scale_for(header, target) for target in targets]


def _decode_jpeg(data: bytes, policy: DecodePolicy, target: tuple[int, int] | None) -> DecodedImage:
    header = jpeg.read_header(data)
    _check_size(header.width, header.height, policy)
    pixels = jpeg.decode_pixels(data, header, jpeg.scale_for(header, target))
    mode = _JPEG_MODES[header.components]
    if mode == "CMYK" or not keeps_colors(header.icc, mode):
        scaled = pixels.shape[1], pixels.shape[0]
        # A gray profile fits only gray pixels.
        samples = pixels[..., 0].copy() if mode == "L" else pixels
        pixels = to_srgb(Image.frombuffer(mode, scaled, samples, "raw", mode, 0, 1), header.icc)
    size = header.width, header.height
    # Orientations from 5 on turn it on its side.
    whole = size if header.orientation >= 5 else size[::-1]
    return DecodedImage(upright(pixels, header.orientation), "JPEG", *size, whole)


def _decode_other(data: bytes, name: str, policy: DecodePolicy) -> DecodedImage:
    with _PLUGINS[name](PatientFile(data, name)) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            width, height = tiff_kinds.stored_size(image)
            tiff_kinds.prepare(image)
        _check_size(width, height, policy)
        # This turns a TIFF upright. Other formats are turned below, by their EXIF block.
        image.load()
        icc, orientation = image.info.get("icc_profile"), 1
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            pixels = to_srgb(tiff_kinds.gray_of_16_bits(image), icc)
        else:
            pixels = to_srgb(_opaque_if_unused(image) if name == "BMP" else image, icc)
            orientation = exif_orientation(image.info.get("exif", b""))
        return DecodedImage(upright(pixels, orientation), name, width, height)


def _decode_png(data: bytes, policy: DecodePolicy) -> DecodedImage:
    parts = png.split(data)
    with PngImagePlugin.PngImageFile(PatientFile(parts.picture, "PNG")) as image:
        width, height = image.size
        _check_size(width, height, policy)
        image.load()
        if image.mode == "P" and image.palette is None:
            raise ImageError("decode", FailureKind.CORRUPT, "PNG: its palette is missing")
        if len(parts.clear) == 6:
            image.putalpha(png.opacity(image, parts))
        pixels = upright(to_srgb(image, parts.icc), exif_orientation(parts.exif))
        return DecodedImage(pixels, "PNG", width, height)


def _decode_avif(data: bytes, policy: DecodePolicy) -> DecodedImage:
    """Decode with Pillow's decoder, but without its plugin, which reads the EXIF block at any cost.

    libavif uses the container's rotation and mirroring instead of EXIF's, and returns them as an
    orientation.
    """
    if not AvifImagePlugin.SUPPORTED:
        raise ImageError(
            "decode", FailureKind.UNSUPPORTED, "AVIF: this machine's Pillow is built without it"
        )
    decoder = AvifImagePlugin._avif.AvifDecoder(data, "auto", 1)  # type: ignore[attr-defined]
    (width, height), _, mode, icc, _, orientation, _ = decoder.get_info()
    _check_size(width, height, policy)
    image = Image.frombytes(mode, (width, height), decoder.get_frame(0)[0])
    return DecodedImage(upright(to_srgb(image, icc), orientation), "AVIF", width, height)


def _check_size(width: int, height: int, policy: DecodePolicy) -> None:
    if width < 1 or height < 1:
        raise ImageError("decode", FailureKind.CORRUPT, f"its header says {width}x{height} pixels")
    if width * height > policy.max_pixels:
        message = (
            f"{width}x{height} is {width * height} pixels; at most {policy.max_pixels} are read"
        )
        raise ImageError("decode", FailureKind.TOO_MANY_PIXELS, message)


def _opaque_if_unused(image: Image.Image) -> Image.Image:
    """Remove a BMP's alpha if it is 0 everywhere: many writers leave the fourth byte unused."""
    unused = image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)
    return image.convert("RGB") if unused else image


def _as_image_error(error: Exception, data: bytes, name: str) -> ImageError:
    seen = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, MemoryError):
        # A transient kind: another run, or a larger worker, may succeed.
        return ImageError("decode", FailureKind.IO_ERROR, f"{name}: out of memory while decoding")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        # A GIF frame or TIFF tile is larger than the header said.
        kind = FailureKind.TOO_MANY_PIXELS
    elif stops_early(data, name):
        kind = FailureKind.TRUNCATED
    elif any(word in seen.lower() for word in _UNREAD_WORDS):
        kind = FailureKind.UNSUPPORTED
    else:
        kind = FailureKind.CORRUPT
    return ImageError("decode", kind, f"{name}: {seen}")
