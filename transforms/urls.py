"""Names of places as users write them: which scheme, bucket and key a text means."""

from __future__ import annotations

import re

from transforms.errors import UserError
from transforms.stores import SCHEMES

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
    """Return ``file``, ``s3``, ``gs`` or ``az``; "" for a path. Raises ``UserError`` for any other scheme."""
    found = _SCHEME.match(text)
    if not found:
        if typo := re.match(r"(s3|gs|gcs|az|file):", text):
            raise UserError(f"{text!r}: did you mean {typo[1]}://…? (a file of that name is './{text}')")
        return ""
    scheme = found[1]
    if scheme in (*SCHEMES, "file"):
        return scheme
    meant = _OTHER_NAMES.get(scheme.lower(), scheme.lower())
    hint = f"; did you mean {meant}://…?" if meant in SCHEMES else ""
    raise UserError(f"{without_password(text)!r}: {scheme}:// is not supported; allowed: {ALLOWED}{hint}")


def without_password(text: str) -> str:
    """Return a URL, or a text that holds some, without what stands for a user and a password in them."""
    return re.sub(r"://[^/\s]*@", "://…@", text)


def parse_url(url: str) -> tuple[str, str, str]:
    """Split ``scheme://bucket/key`` into scheme, bucket and raw key (maybe ""). Raises ``UserError``."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in SCHEMES or not _BUCKET.fullmatch(bucket):
        raise UserError(
            f"{without_password(url)!r} names no bucket; write {scheme}://BUCKET/KEY, no wildcard in BUCKET"
        )
    return scheme, bucket, key
