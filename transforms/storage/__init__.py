"""Read and write whole objects in a folder, local or in a bucket.

Keys are relative, separated by "/" and raw: never percent-encoded, whatever characters they hold.
"""

from __future__ import annotations

from transforms.storage.base import (
    NoRoom,
    NotFound,
    PermissionDenied,
    Storage,
    StorageError,
    StoredObject,
    Unaddressable,
    is_full,
)
from transforms.storage.settings import Stores
from transforms.storage.urls import local_path, parse_url

__all__ = [
    "NoRoom",
    "NotFound",
    "PermissionDenied",
    "Storage",
    "StorageError",
    "StoredObject",
    "Unaddressable",
    "is_full",
    "local_path",
    "open_storage",
]


def open_storage(url: str, stores: Stores = ()) -> Storage:
    """Return the storage at a path or URL, without sending any request.

    Args:
        url: Path of a folder, or its URL: ``file://``, ``s3://``, ``gs://`` or ``az://``.
        stores: The texts of ``--store``: where buckets are.

    Raises:
        UserError: For another scheme, or a URL without a bucket.
    """
    folder = local_path(url)
    if folder is not None:
        from transforms.storage.local import LocalStorage

        return LocalStorage(str(folder))
    # The client imports Arrow, and the command line must answer --help without it.
    from transforms.storage.bucket import Bucket
    from transforms.storage.bucket_storage import BucketStorage

    scheme, bucket, prefix = parse_url(url)
    return BucketStorage(Bucket(scheme, bucket, stores), prefix.strip("/"))
