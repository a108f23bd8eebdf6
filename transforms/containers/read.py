"""Read members of a container: several with one request, or one after the other from a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from transforms.containers.base import ContainerDamaged
from transforms.containers.bytes import ContainerFile, open_container
from transforms.containers.compressed import DecompressedFile
from transforms.containers.parquet import read_rows
from transforms.containers.zip import member_bytes
from transforms.errors import FailureKind, ImageError, kind_of_problem
from transforms.readers import check_size, storage_failure
from transforms.records import ImageReference, Member
from transforms.storage import StorageError, StoredObject
from transforms.storage.bucket import Bucket
from transforms.storage.settings import Stores
from transforms.storage.urls import parse_url, scheme_of

# A member as it was read, with what its reference did not know, or why it could not be read.
ReadMember = tuple[ImageReference, bytes | ImageError]


def member_of(reference: ImageReference) -> Member:
    """Return where a member lies; only for references of members."""
    assert reference.member is not None
    return reference.member


def read_span(
    references: Sequence[ImageReference], max_bytes: int, stores: Stores
) -> list[ReadMember]:
    """Read members that lie near each other in one container, with one request.

    Args:
        references: Members of one container with direct access.
        max_bytes: The limit for one image; a larger one fails.
        stores: Where buckets are.
    """
    refused = [_refused(reference, max_bytes) for reference in references]
    wanted = [one for one, error in zip(references, refused, strict=True) if error is None]
    if not wanted:
        return [(one, error) for one, error in zip(references, refused, strict=True) if error]
    start = min(member_of(reference).offset for reference in wanted)
    end = max(member_of(reference).offset + member_of(reference).length for reference in wanted)
    try:
        span = _read_range(member_of(wanted[0]), start, end - start, stores)
    except ImageError as error:
        return [(one, earlier or error) for one, earlier in zip(references, refused, strict=True)]
    except StorageError as error:
        failure = storage_failure(error)
        return [(one, earlier or failure) for one, earlier in zip(references, refused, strict=True)]
    return [
        (one, error or _cut(one, span, start))
        for one, error in zip(references, refused, strict=True)
    ]


def read_stream(
    references: Sequence[ImageReference], max_bytes: int, stores: Stores
) -> Iterator[ReadMember]:
    """Read members of one stream in the order of their offsets.

    Args:
        references: Members of one container and stream, by offset.
        max_bytes: The limit for one image; a larger one fails.
        stores: Where buckets are.

    Yields:
        Each reference once, in their order.
    """
    left = list(references)
    try:
        with open_container(left[0].location, stores) as file:
            _check_etag(file.etag, member_of(left[0]))
            for result in _stream(file, references, max_bytes):
                left.pop(0)
                yield result
    except ContainerDamaged as error:
        kind, message = kind_of_problem(error.problem)
        yield from ((reference, ImageError("read", kind, message)) for reference in left)
    except ImageError as failure:
        yield from ((reference, failure) for reference in left)
    except StorageError as error:
        yield from ((reference, storage_failure(error)) for reference in left)


def _stream(
    file: ContainerFile, references: Sequence[ImageReference], max_bytes: int
) -> Iterator[ReadMember]:
    first = member_of(references[0])
    if first.column is not None:
        yield from _rows(file, references, first.column, max_bytes)
        return
    stream = DecompressedFile(file, first.reader)
    for reference in references:
        error, member = _refused(reference, max_bytes), member_of(reference)
        yield reference, error or _whole(stream.read(member.offset, member.length), reference)


def _rows(
    file: ContainerFile, references: Sequence[ImageReference], column: str, max_bytes: int
) -> Iterator[ReadMember]:
    refused = [_refused(reference, max_bytes) for reference in references]
    pairs = list(zip(references, refused, strict=True))
    rows = {member_of(reference).offset for reference, error in pairs if error is None}
    found = read_rows(file, column, rows) if rows else iter(())
    for reference, error in pairs:
        if error is not None:
            yield reference, error
            continue
        try:
            data = next(found)
        except StopIteration:
            raise ContainerDamaged(
                FailureKind.TRUNCATED, f"{file.uri} has fewer rows than its footer says"
            ) from None
        if data is None:
            yield reference, ImageError("read", FailureKind.EMPTY, f"{column} is null in this row")
        elif len(data) > max_bytes:
            yield reference, _too_large(len(data), max_bytes)
        else:
            yield replace(reference, size=len(data)), data.to_pybytes()


def _read_range(member: Member, start: int, length: int, stores: Stores) -> bytes:
    if scheme_of(member.container) in ("", "file"):
        with open_container(member.container) as file:
            _check_etag(file.etag, member)
            return file.read(start, length)
    scheme, bucket, key = parse_url(member.container)

    def check(stored: StoredObject) -> None:
        _check_etag(stored.etag, member)

    return Bucket(scheme, bucket, stores).get_range(key, start, length, check)


def _check_etag(etag: str, member: Member) -> None:
    if etag != member.etag:
        raise ImageError(
            "read",
            FailureKind.CHANGED,
            f"{member.container} changed since it was listed: etag {member.etag} then, {etag} now",
        )


def _refused(reference: ImageReference, max_bytes: int) -> ImageError | None:
    """Return why a member is not read at all."""
    member = member_of(reference)
    if member.problem is not None:
        kind, message = kind_of_problem(member.problem)
        return ImageError("read", kind, message)
    try:
        check_size(reference.size, max_bytes)
    except ImageError as error:
        return error
    return None


def _too_large(size: int, max_bytes: int) -> ImageError:
    try:
        check_size(size, max_bytes)
    except ImageError as error:
        return error
    raise ValueError(f"{size} bytes are not too large")


def _cut(reference: ImageReference, span: bytes, start: int) -> bytes | ImageError:
    """Take a member out of the bytes that hold it."""
    member = member_of(reference)
    data = span[member.offset - start : member.offset - start + member.length]
    if member.reader != "zip":
        return _whole(data, reference)
    try:
        return member_bytes(data, reference.size, reference.etag)
    except ContainerDamaged as error:
        kind, message = kind_of_problem(error.problem)
        return ImageError("read", kind, message)


def _whole(data: bytes, reference: ImageReference) -> bytes | ImageError:
    length = member_of(reference).length
    if len(data) == length:
        return data
    what = f"{reference.location} ends within the member: {len(data):,} of {length:,} bytes"
    return ImageError("read", FailureKind.TRUNCATED, what)
