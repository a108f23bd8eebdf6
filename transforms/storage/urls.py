"""Parse paths and URLs as users write them, into scheme, bucket and key."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from transforms.errors import UserError
from transforms.storage.settings import SCHEMES

ALLOWED = "a local path, file://, s3://, gs:// or az://"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")
_OTHER_NAMES = {
    "gcs": "gs",
    "s3a": "s3",
    "s3n": "s3",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "wasb": "az",
}


def scheme_of(text: str) -> str:
    """Return ``file``, ``s3``, ``gs`` or ``az``; "" for a path.

    Raises:
        UserError: For any other scheme.
    """
    found = _SCHEME.match(text)
    if not found:
        if typo := re.match(r"(s3|gs|gcs|az|file):", text):
            raise UserError(
                f"{text!r}: did you mean {typo[1]}://…? (a file of that name is './{text}')"
            )
        return ""
    scheme = found[1]
    if scheme in (*SCHEMES, "file"):
        return scheme
    meant = _OTHER_NAMES.get(scheme.lower(), scheme.lower())
    hint = f"; did you mean {meant}://…?" if meant in SCHEMES else ""
    raise UserError(
        f"{without_password(text)!r}: {scheme}:// is not supported; allowed: {ALLOWED}{hint}"
    )


def without_password(text: str) -> str:
    """Return a text with user and password removed from all URLs in it."""
    return re.sub(r"://[^/\s]*@", "://…@", text)


def parse_url(url: str) -> tuple[str, str, str]:
    """Split ``scheme://bucket/key`` into scheme, bucket and raw key (maybe "").

    Raises:
        UserError: For another scheme, or a missing or invalid bucket.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in SCHEMES or not _BUCKET.fullmatch(bucket):
        raise UserError(
            f"{without_password(url)!r} names no bucket; write {scheme}://BUCKET/KEY, no wildcard "
            "in BUCKET"
        )
    return scheme, bucket, key


def local_path(url: str) -> Path | None:
    """Return the absolute local path of a path or ``file://`` URL, None for a bucket.

    A ``file://`` URL is percent-decoded, unless a file of the undecoded name exists.

    Raises:
        UserError: For an invalid path, another scheme, or a ``file://`` URL without absolute path.
    """
    if not url or "\0" in url:
        raise UserError(f"{url!r} is not a path; give a folder or a URL")
    scheme = scheme_of(url)
    if not scheme:
        return _absolute(url)
    if scheme != "file":
        return None
    raw = re.sub(r"^file://(?:localhost)?(?=/)", "", url)
    if not raw.startswith("/"):
        raise UserError(f"{url!r} is not a local file; write file:///absolute/path")
    return _absolute(raw if os.path.lexists(raw) else unquote(raw))


def _absolute(path: str) -> Path:
    """Make a path absolute and remove ``..``; follow links only where a ``..`` comes after them."""
    # Path.resolve would follow all symbolic links.
    cut = os.path.abspath(path)  # noqa: PTH100
    up = re.match(r"(.*(?:^|/)\.\.)(?:/|$)(.*)", path, re.DOTALL)
    if not up or os.path.realpath(path) == os.path.realpath(cut):
        return Path(cut)
    return Path(os.path.realpath(up[1]), up[2])
