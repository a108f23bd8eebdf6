"""Read one photo that a user names by path or URL, also a member of a container."""

from __future__ import annotations

from transforms.containers.locate import locate
from transforms.containers.members import SEPARATOR
from transforms.errors import FailureKind, UserError
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.records import ImageReference
from transforms.storage import local_path


def read_photo(photo: str, policy: ReadPolicy, image_column: str | None = None) -> bytes:
    """Return the bytes of one image.

    Args:
        photo: Path or URL; ``CONTAINER::MEMBER`` for a member of a container.
        policy: The limits, and where buckets are.
        image_column: Column or feature of the bytes, for a member that is a row.

    Raises:
        ImageError: It cannot be read.
        UserError: There is no such file or member, or the column has to be named.
        StorageError: A container cannot be read.
    """
    uri = str(local_path(photo) or photo)
    found = locate([ImageReference(uri, "", -1, None)], policy.stores, column=image_column)
    item = next(read_images(found, policy))
    if isinstance(item, EncodedImage):
        return item.data
    if SEPARATOR in uri and found[0].member is None and item[1].kind is FailureKind.NOT_FOUND:
        raise UserError(
            f"{photo}: there is no such file, and no container that holds a member of this name"
        )
    raise item[1]
