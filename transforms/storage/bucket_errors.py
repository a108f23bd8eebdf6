"""Errors of a bucket's client in one line each: what happened, and what its user can do."""

from __future__ import annotations

import re

from transforms.storage.base import NotFound, PermissionDenied, StorageError, Unaddressable

_NO_BUCKET = re.compile(
    r"NoSuchBucket|ContainerNotFound|specified (?:bucket|container) does not exist"
)
# The last resort of each client is to ask the machine that it runs on.
_NO_CREDENTIALS = re.compile(
    r"/latest/(?:api/token|meta-data)|/computeMetadata/|/metadata/identity/|//169\.254\.170\.2|"
    r"Account must be specified"
)
_DENIED = re.compile(
    r"status code: 40[13]\b|<Code>(?:ExpiredToken|InvalidToken|TokenRefreshRequired)</Code>"
)
_DENIALS = ("PermissionDeniedError", "UnauthenticatedError")
_HOW_TO_SIGN = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a "
    "public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and a key, or AZURE_SKIP_SIGNATURE=true for a "
    "public container",
}


class OutOfRange(StorageError):
    """The object ends before the range that was asked for begins."""


def client_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises for a request that failed."""
    from obstore.exceptions import BaseError

    return BaseError, FileNotFoundError, ValueError


def explain(error: Exception, bucket: str, key: str) -> StorageError:
    """Turn the client's error of many lines into one of ours of one line.

    Args:
        error: What the client raised.
        bucket: URL of the bucket, with a slash at its end.
        key: The raw key that the request was about.
    """
    text = str(error)
    if isinstance(error, ValueError) or type(error).__name__ == "InvalidPathError":
        if found := re.search(r'path: "(.*)"', text):
            key = found[1]
        return Unaddressable(
            f"the client cannot address {bucket + key!r}: the key has an empty, '.' or '..' "
            "part, a slash at an end or a control character; rename the object, or name other "
            "prefixes that leave it out"
        )
    if _NO_BUCKET.search(text):
        return NotFound(f"the bucket {bucket} does not exist")
    if _NO_CREDENTIALS.search(text):
        how = _HOW_TO_SIGN[bucket.partition(":")[0]]
        return PermissionDenied(f"no credentials for {bucket}: {how}")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{bucket}{key} is not there")
    if type(error).__name__ in _DENIALS or _DENIED.search(text):
        return PermissionDenied(f"permission denied for {bucket}{key}: {_one_line(text)}")
    if "kind: Connect" in text:
        return StorageError(f"{bucket}{key}: {_no_connection(text)}")
    kind = OutOfRange if "status code: 416" in text else StorageError
    return kind(f"{bucket}{key}: {_one_line(text)}")


def _no_connection(text: str) -> str:
    """Who does not answer, and why, which the client says only in what it shows to programmers."""
    host, why, tries = (
        re.search(pattern, text)
        for pattern in (
            r"://(?:[^/\s@]*@)?([^/\s?@]+)",
            r'(?:message|error): "([^"]*)"',
            r"after (\d+ retries)",
        )
    )
    reason = f" ({why[1]})" if why else ""
    return (
        f"no connection to {host[1] if host else 'the store'}{reason}, after "
        f"{tries[1] if tries else 'all tries'}: see that the endpoint is right, and up"
    )


def _one_line(text: str) -> str:
    """Keep the first line and the server's own code.

    The client has blacked out a URL that holds a secret.
    """
    code = re.search(r"<Code>(.*?)</Code>", text)
    head = re.split(r"\n\nDebug source|<\?xml|<Error>|\n", text)[0]
    return f"{head.strip(' :')} ({code[1]})" if code else head.strip(" :")
