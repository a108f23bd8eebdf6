"""Ids of rows in the forms that destinations take. Each is made of the image's uri alone."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

import pyarrow as pa

from pipeline.exporting.targets import IdKind


def ids_of(uris: Iterable[str], kind: IdKind) -> pa.Array:
    """Return an id for each image.

    Args:
        uris: The images [n].
        kind: ``uri`` as it is; ``sha256`` of it, 64 hexadecimal digits; ``int64``, 63 bits of that
            sha256, never negative; ``uuid5`` in the namespace of URLs (RFC 9562).

    Returns:
        Strings or int64 [n].
    """
    if kind == "uri":
        return pa.array(list(uris), pa.string())
    if kind == "sha256":
        return pa.array([_sha256(uri).hex() for uri in uris], pa.string())
    if kind == "uuid5":
        return pa.array([str(uuid.uuid5(uuid.NAMESPACE_URL, uri)) for uri in uris], pa.string())
    return pa.array([int.from_bytes(_sha256(uri)[:8], "big") >> 1 for uri in uris], pa.int64())


def _sha256(uri: str) -> bytes:
    return hashlib.sha256(uri.encode()).digest()
