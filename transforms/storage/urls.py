"""Names of places as users write them: which scheme, bucket and key a text means."""

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

    Raises ``UserError`` for any other scheme.
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
    """Return a URL, or a text that holds some, without what stands for a user and a password in them."""
    return re.sub(r"://[^/\s]*@", "://…@", text)


def parse_url(url: str) -> tuple[str, str, str]:
    """Split ``scheme://bucket/key`` into scheme, bucket and raw key (maybe "").

    Raises ``UserError``.
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
    """Return the absolute local path that a path or ``file://`` URL means, None for a bucket.

    A ``file://`` URL is percent-decoded unless it is, as it stands, the name of something on disk.
    Raises ``UserError``.
    """
    if not url or "\0" in url:
        raise UserError(f"{url!r} is no path; give a folder or a URL")
    scheme = scheme_of(url)
    if not scheme:
        return _absolute(url)
    if scheme != "file":
        return None
    raw = re.sub(r"^file://(?:localhost)?(?=/)", "", url)
    if not raw.startswith("/"):
        raise UserError(f"{url!r} is no local file; write file:///absolute/path")
    return _absolute(raw if os.path.lexists(raw) else unquote(raw))


def _absolute(path: str) -> Path:
    """Make absolute and drop ``..``; links stay, but one before a ``..`` is followed first."""
    cut = os.path.abspath(path)  # noqa: PTH100  (Path.resolve would follow all symbolic links)
    up = re.match(r"(.*(?:^|/)\.\.)(?:/|$)(.*)", path, re.DOTALL)
    if not up or os.path.realpath(path) == os.path.realpath(cut):
        return Path(cut)
    return Path(os.path.realpath(up[1]), up[2])
