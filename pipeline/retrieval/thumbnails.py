"""Make thumbnails of rows, with our own reader and decoder."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image

from transforms.containers.index import Indexes
from transforms.containers.locate import locate
from transforms.decode.image import DecodePolicy, decode
from transforms.errors import ImageError
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.records import ImageReference
from transforms.storage.settings import Stores

# The longer side of a thumbnail, in pixels.
SIDE = 256
_QUALITY = 80


def thumbnails(
    references: Sequence[ImageReference],
    stores: Stores = (),
    indexes: Indexes | None = None,
    side: int = SIDE,
) -> Iterator[bytes | ImageError]:
    """Yield a JPEG for each image, or why there is none.

    Args:
        references: The images. One whose etag or size is not the reference's has changed, and
            gives an error.
        stores: Where buckets are.
        indexes: Where the members of containers are kept.
        side: Max height and width of a thumbnail, in pixels.

    Raises:
        StorageError: A container cannot be read.
    """
    found = locate(references, stores, indexes)
    for item in read_images(found, ReadPolicy(stores=stores)):
        try:
            if not isinstance(item, EncodedImage):
                raise item[1]
            yield thumbnail(item.data, side)
        except ImageError as error:
            yield error


def thumbnail(data: bytes, side: int = SIDE, policy: DecodePolicy | None = None) -> bytes:
    """Return an encoded image as a JPEG whose longer side is at most ``side`` pixels.

    Args:
        data: The encoded image.
        side: In pixels.
        policy: The limits of decoding; None for the default ones.

    Raises:
        ImageError: It cannot be decoded.
    """
    # A large JPEG is decoded smaller, as for a network of this input size.
    pixels = decode(data, policy or DecodePolicy(), (side, side)).pixels
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()
