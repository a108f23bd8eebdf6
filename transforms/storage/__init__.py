"""Storage: a folder, local or in a bucket, that is read and written whole objects at a time.

Keys are relative, separated by "/" and raw: never percent-encoded, whatever characters they hold.
"""

from __future__ import annotations

from transforms.storage.base import (
    NotFound,
    PermissionDenied,
    Storage,
    StorageError,
    StoredObject,
    Unaddressable,
)
from transforms.storage.settings import Stores
from transforms.storage.urls import local_path, parse_url

__all__ = [
    "NotFound",
    "PermissionDenied",
    "Storage",
    "StorageError",
    "StoredObject",
    "Unaddressable",
    "local_path",
    "open_storage",
]


def open_storage(url: str, stores: Stores = ()) -> Storage:
    """Return the storage at a path, ``file://``, ``s3://``, ``gs://`` or ``az://``; nothing is requested yet.

    Args:
        url: Of a folder.
        stores: The texts of ``--store``: where buckets are.

    Raises:
        UserError: Another scheme, or a URL without bucket.
    """
    folder = local_path(url)
    if folder is not None:
        from transforms.storage.local import LocalStorage

        return LocalStorage(str(folder))
    # Arrow loads with the client, and the command line must answer --help without it.
    from transforms.storage.bucket import Bucket
    from transforms.storage.bucket_storage import BucketStorage

    scheme, bucket, prefix = parse_url(url)
    return BucketStorage(Bucket(scheme, bucket, stores), prefix.strip("/"))
