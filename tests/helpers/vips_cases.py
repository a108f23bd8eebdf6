"""Make small files of every format, depth and kind of metadata, to compare with libvips."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyvips
import skimage
from PIL import Image, ImageCms

from tests.helpers.encoded import P3, encode, png, png_chunk, profile, riff_chunk, tiff, webp_with

PHOTO = (
    Image.open(Path(skimage.__file__).parent / "data/coffee.png").convert("RGB").resize((61, 41))
)
PIXELS, GRAY = np.asarray(PHOTO), np.asarray(PHOTO.convert("L"))
ALPHA = np.tile(np.linspace(0, 255, 61).astype(np.uint8), (41, 1))
RGBA, LA = (
    Image.fromarray(np.dstack([PIXELS, ALPHA])),
    Image.fromarray(np.dstack([GRAY, ALPHA]), "LA"),
)
PALETTE = PHOTO.quantize(200)
WIDE = profile(P3, 2.2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
INK = bytes(pyvips.Operation.call("profile_load", "cmyk"))
# Files that get metadata.
PLAIN: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
    "jpeg": (PHOTO, "JPEG", {"quality": 90}),
    "jpeg progressive": (PHOTO, "JPEG", {"quality": 90, "progressive": True}),
    "png": (PHOTO, "PNG", {}),
    "png alpha": (RGBA, "PNG", {}),
    "webp lossless": (PHOTO, "WEBP", {"lossless": True}),
    "webp lossy": (PHOTO, "WEBP", {"quality": 90}),
    "webp alpha": (RGBA, "WEBP", {"quality": 90}),
    "avif": (PHOTO, "AVIF", {"quality": 90, "subsampling": "4:4:4"}),
    "tiff": (PHOTO, "TIFF", {}),
}


def cases() -> dict[str, bytes]:
    """Return every file by its name, which starts with the format."""
    parts = (
        _jpegs,
        _pngs,
        _png_transparency,
        _bmps,
        _others,
        _tiffs,
        _vips_tiffs,
        _orientations,
        _profiles,
        _chunks,
    )
    return {name: data for part in parts for name, data in part()}


def exif(orientation: int, entries: int = 2) -> bytes:
    """Make an EXIF block with maker and orientation, which may claim more than two entries."""
    maker = struct.pack("<HHI4s", 0x010F, 2, 4, b"cam\0")
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, entries) + maker + turned + bytes(4)


def _jpegs() -> Iterator[tuple[str, bytes]]:
    for kind in ("baseline", "progressive"):
        options = {"quality": 85, "progressive": kind == "progressive"}
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            yield (
                f"jpeg {kind} {subsampling}",
                encode(PHOTO, "JPEG", subsampling=subsampling, **options),
            )
        yield f"jpeg {kind} gray", encode(PHOTO.convert("L"), "JPEG", **options)
        yield f"jpeg {kind} cmyk", encode(PHOTO.convert("CMYK"), "JPEG", **options)
        yield (
            f"jpeg {kind} cmyk, profile",
            encode(PHOTO.convert("CMYK"), "JPEG", icc_profile=INK, **options),
        )


def _pngs() -> Iterator[tuple[str, bytes]]:
    for adam7 in (False, True):
        way = " interlaced" if adam7 else ""
        for depth in (1, 2, 4, 8, 16):
            gray = GRAY.astype(np.uint16) * 257 >> 16 - depth
            yield f"png gray {depth}{way}", png(gray, depth, 0, interlaced=adam7)
            if depth <= 8:
                colors = png_chunk(b"PLTE", np.random.default_rng(depth).bytes(3 << depth))
                yield f"png palette {depth}{way}", png(gray, depth, 3, colors, adam7)
        for depth in (8, 16):
            scale = 257 if depth == 16 else 1
            for color, array in ((2, PIXELS), (4, np.asarray(LA)), (6, np.asarray(RGBA))):
                deep = array.astype(np.uint16) * scale
                yield (
                    f"png {('', '', 'rgb', '', 'gray alpha', '', 'rgba')[color]} {depth}{way}",
                    png(deep, depth, color, interlaced=adam7),
                )


def _png_transparency() -> Iterator[tuple[str, bytes]]:
    for depth in (1, 2, 4, 8, 16):
        gray = GRAY.astype(np.uint16) * 257 >> 16 - depth
        clear = png_chunk(b"tRNS", struct.pack(">H", gray[20, 30]))
        yield f"png gray {depth} tRNS", png(gray, depth, 0, clear)
    for depth, scale in ((8, 1), (16, 257), (16, 256)):
        deep = PIXELS.astype(np.uint16) * scale
        clear = png_chunk(b"tRNS", struct.pack(">HHH", *deep[20, 30]))
        yield f"png rgb {depth} tRNS x{scale}", png(deep, depth, 2, clear)
    yield "png palette tRNS", encode(PALETTE, "PNG", transparency=bytes(range(200)))


def _bmps() -> Iterator[tuple[str, bytes]]:
    """Yield BMPs, each with a PNG of the same picture, as libvips' wheel reads no BMP."""
    for mode in ("1", "L", "P", "RGB"):
        image = PALETTE if mode == "P" else PHOTO.convert(mode)
        yield f"bmp {mode}", encode(image, "BMP")
        yield f"png of bmp {mode}", encode(image, "PNG")
    rows = np.pad(PIXELS[::-1, :, ::-1].reshape(41, -1), ((0, 0), (0, 1))).tobytes()
    core = struct.pack("<IHHHH", 12, 61, 41, 1, 24)
    yield "bmp core header", b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + core + rows
    yield "png of bmp core header", encode(PHOTO, "PNG")
    five = (PIXELS[::-1].astype(np.uint16) >> 3) @ np.array([1 << 10, 1 << 5, 1], np.uint16)
    short = np.pad(five, ((0, 0), (0, 1))).astype("<u2").tobytes()
    yield "bmp 16 bits", _bmp(40, 16, 0, short)
    yield (
        "png of bmp 16 bits",
        encode(Image.fromarray(((PIXELS >> 3).astype(np.uint16) * 255 // 31).astype("u1")), "PNG"),
    )
    quads = np.dstack([PIXELS[::-1, :, ::-1], ALPHA[::-1]]).tobytes()
    for size in (40, 56, 108, 124):
        yield f"bmp header {size}", _bmp(size, 32, 3 if size > 40 else 0, quads)
        yield f"png of bmp header {size}", encode(RGBA if size > 40 else PHOTO, "PNG")


def _bmp(size: int, bits: int, compression: int, body: bytes) -> bytes:
    """Make a BMP with any header size; larger headers have masks of red, green, blue and alpha."""
    head = struct.pack("<IiiHHIIiiII", size, 61, 41, 1, bits, compression, len(body), 0, 0, 0, 0)
    head = (head + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(64))[
        :size
    ]
    return b"BM" + struct.pack("<IHHI", 14 + size + len(body), 0, 0, 14 + size) + head + body


def _others() -> Iterator[tuple[str, bytes]]:
    yield "gif", encode(PALETTE, "GIF")
    yield "gif interlaced", encode(PALETTE, "GIF", interlace=1)
    yield "gif gray", encode(PHOTO.convert("L"), "GIF")
    yield "gif transparent", encode(PALETTE, "GIF", transparency=7)
    yield "webp lossless alpha", encode(RGBA, "WEBP", lossless=True, exact=True)
    for name, (image, kind, options) in PLAIN.items():
        yield name, encode(image, kind, **options)
    yield "avif 4:2:0", encode(PHOTO, "AVIF", quality=90, subsampling="4:2:0")
    yield "avif alpha", encode(RGBA, "AVIF", quality=90, subsampling="4:4:4")
    yield "avif gray", encode(PHOTO.convert("L"), "AVIF", quality=90)


def _tiffs() -> Iterator[tuple[str, bytes]]:
    cmyk = PHOTO.convert("CMYK")
    pictures = {"gray": PHOTO.convert("L"), "palette": PALETTE, "rgb": PHOTO}
    pictures |= {"rgba": RGBA, "gray alpha": LA, "cmyk": cmyk}
    for compression in (None, "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd"):
        for name, image in pictures.items():
            yield (
                f"tiff {compression or 'raw'} {name}",
                encode(image, "TIFF", compression=compression),
            )
    for compression in (None, "group3", "group4", "tiff_ccitt", "packbits"):
        yield (
            f"tiff {compression or 'raw'} bits",
            encode(PHOTO.convert("1"), "TIFF", compression=compression),
        )
    for name in ("gray", "rgb"):
        yield f"tiff jpeg {name}", encode(pictures[name], "TIFF", compression="jpeg", quality=90)
    yield "tiff cmyk, profile", encode(cmyk, "TIFF", icc_profile=INK)
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    yield "tiff lab", encode(ImageCms.profileToProfile(PHOTO, *spaces, outputMode="LAB"), "TIFF")
    for order in "<>":
        for compression in (None, "zlib"):
            options: dict[str, object] = {"byteorder": order, "compression": compression}
            for name, array, more in _arrays():
                yield f"tiff {name} {compression or 'raw'} {order}", tiff(array, **more, **options)


def _arrays() -> Iterator[tuple[str, np.ndarray, dict[str, object]]]:
    """Yield arrays of every depth, and their meaning."""
    for photometric in ("minisblack", "miniswhite"):
        for dtype, scale in (("u1", 1), ("u2", 257), ("i2", 128), ("u4", 1), ("i4", 1), ("f4", 1)):
            yield (
                f"{photometric} {dtype}",
                (GRAY.astype("f8") * scale).astype(dtype),
                {"photometric": photometric},
            )
    for dtype, scale in (("u1", 1), ("u2", 257), ("f4", 1)):
        yield f"rgb {dtype}", PIXELS.astype(dtype) * scale, {"photometric": "rgb"}
    for dtype, scale in (("u1", 1), ("u2", 257)):
        planes = (PIXELS.astype(dtype) * scale).transpose(2, 0, 1).copy()
        yield f"planes {dtype}", planes, {"photometric": "rgb", "planarconfig": "separate"}
        for extra in ("assocalpha", "unassalpha"):
            colors = np.rint(PIXELS * (ALPHA[..., None] / 255)) if extra == "assocalpha" else PIXELS
            array = np.dstack([colors, ALPHA]).astype(dtype) * scale
            yield (
                f"rgb {extra} {dtype}",
                array.astype(dtype),
                {"photometric": "rgb", "extrasamples": [extra]},
            )
        gray = (np.dstack([GRAY, ALPHA]).astype(dtype) * scale).astype(dtype)
        yield (
            f"gray alpha {dtype}",
            gray,
            {"photometric": "minisblack", "extrasamples": ["unassalpha"]},
        )


def _vips_tiffs() -> Iterator[tuple[str, bytes]]:
    """Yield TIFFs by libvips, of kinds that the other two do not write."""
    for name, array in (("gray", GRAY), ("rgb", PIXELS)):
        image = pyvips.Image.new_from_array(
            array, interpretation="b-w" if name == "gray" else "srgb"
        )
        for compression in ("none", "lzw", "deflate", "jpeg", "packbits"):
            for way in ({}, {"tile": True, "tile_width": 32, "tile_height": 32}, {"bigtiff": True}):
                label = f"tiff vips {compression} {name} {'/'.join(way)}".rstrip()
                yield label, image.tiffsave_buffer(compression=compression, Q=90, **way)
        deep = (image.cast("ushort") * 257).copy(
            interpretation="grey16" if name == "gray" else "rgb16"
        )
        yield (
            f"tiff vips {name} 16",
            deep.cast("ushort").tiffsave_buffer(predictor="horizontal", compression="lzw"),
        )
    gray = pyvips.Image.new_from_array(GRAY, interpretation="b-w")
    for depth in (1, 2, 4):
        for miniswhite in (False, True):
            label = f"tiff vips gray {depth}{' miniswhite' if miniswhite else ''}"
            yield label, gray.tiffsave_buffer(bitdepth=depth, miniswhite=miniswhite)
    lab = pyvips.Image.new_from_array(PIXELS, interpretation="srgb").colourspace("lab")
    yield "tiff vips lab", lab.colourspace("labs").colourspace("lab").tiffsave_buffer()
    yield "tiff vips lab 16", lab.colourspace("labs").tiffsave_buffer()


def _orientations() -> Iterator[tuple[str, bytes]]:
    for name, (image, kind, options) in PLAIN.items():
        for orientation in range(1, 9):
            yield (
                f"{name}, exif {orientation}",
                encode(image, kind, exif=exif(orientation), **options),
            )
            if kind in ("JPEG", "PNG", "WEBP"):
                block = exif(orientation, entries=500)
                yield (
                    f"{name}, exif {orientation} of 500",
                    encode(image, kind, exif=block, **options),
                )
    for first, second in ((6, 1), (1, 6), (8, 3)):
        block = exif(second)
        jpeg = encode(PHOTO, "JPEG", exif=exif(first))
        at = jpeg.index(b"\xff\xdb")
        segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
        yield f"jpeg, exif {first} and {second}", jpeg[:at] + segment + jpeg[at:]
        chunks = png_chunk(b"eXIf", exif(first)[6:]) + png_chunk(b"eXIf", block[6:])
        yield f"png, exif {first} and {second}", png(PIXELS, 8, 2, chunks)
        webp = encode(PHOTO, "WEBP", lossless=True, exif=exif(first))
        yield (
            f"webp, exif {first} and {second}",
            webp_with(webp, riff_chunk(b"EXIF", block[6:]), b"EXIF"),
        )


def _profiles() -> Iterator[tuple[str, bytes]]:
    for name, (image, kind, options) in PLAIN.items():
        for label, icc in (("srgb", SRGB), ("wide", WIDE)):
            yield f"{name}, profile {label}", encode(image, kind, icc_profile=icc, **options)
            both = {**options, "icc_profile": icc, "exif": exif(6)}
            yield f"{name}, profile {label}, exif 6", encode(image, kind, **both)
    curve = profile(None, 1.8)
    yield "png gray 16, profile gray", png(GRAY.astype(np.uint16) * 257, 16, 0, _iccp(curve))
    yield "png rgb 16, profile wide", png(PIXELS.astype(np.uint16) * 257, 16, 2, _iccp(WIDE))
    yield "png palette, profile wide", encode(PALETTE, "PNG", icc_profile=WIDE)
    for photometric in ("minisblack", "miniswhite"):
        deep = GRAY.astype(np.uint16) * 257
        yield (
            f"tiff {photometric} 16, profile gray",
            tiff(deep, photometric=photometric, iccprofile=curve),
        )
    for kind in ("JPEG", "PNG", "TIFF"):
        yield (
            f"{kind.lower()} gray, profile gray",
            encode(PHOTO.convert("L"), kind, icc_profile=curve),
        )
        yield f"{kind.lower()}, profile gray", encode(PHOTO, kind, icc_profile=curve)


def _iccp(icc: bytes) -> bytes:
    return png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))


def _chunks() -> Iterator[tuple[str, bytes]]:
    """Yield other metadata, of odd sizes."""
    for size in (1, 3, 17):
        text = b"k\0" + bytes(size)
        yield (
            f"png, text of {size}",
            png(PIXELS, 8, 2, png_chunk(b"tEXt", text) + png_chunk(b"prVt", bytes(size))),
        )
        comment = b"\xff\xfe" + struct.pack(">H", size + 2) + bytes(size)
        jpeg = encode(PHOTO, "JPEG")
        yield f"jpeg, comment of {size}", jpeg[:2] + comment + jpeg[2:]
        webp = encode(PHOTO, "WEBP", lossless=True, exif=exif(6))
        yield f"webp, chunk of {size}", webp_with(webp, riff_chunk(b"oddc", bytes(size)), b"VP8X")
        yield (
            f"webp, xmp of {size}",
            encode(PHOTO, "WEBP", lossless=True, exif=exif(6), xmp=bytes(size)),
        )
        yield f"gif, comment of {size}", encode(PALETTE, "GIF", comment=bytes(size))
