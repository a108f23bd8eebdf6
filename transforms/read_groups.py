"""Cut references into tasks of reading: what lies together is read together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transforms.choices import MAX_IMAGE_BYTES
from transforms.records import ImageReference
from transforms.storage.settings import Stores
from transforms.storage.urls import scheme_of

# Local files of one task: alone each costs 60 µs of threading, in such groups 2 µs.
_GROUP_FILES = 32
_GROUP_BYTES = 4 << 20
# Members of a container that one request to a bucket reads.
_SPAN_MEMBERS = 512
_SPAN_BYTES = 8 << 20
# Bytes between two members that are read too, for the sake of one request less.
_GAP = 64 << 10


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """Bounds of reading."""

    # Of one image; a larger one fails and is not read
    max_bytes: int = MAX_IMAGE_BYTES
    # Reads at once: 1,280 images/s from a store 50 ms away; bytes in flight bound large ones
    concurrency: int = 64
    # Read or being read, and not yet taken by the consumer
    max_bytes_in_flight: int = 256 << 20
    stores: Stores = ()  # where buckets are


@dataclass(frozen=True, slots=True)
class Group:
    """References that one task reads."""

    references: Sequence[ImageReference]
    # Bytes that they take at most.
    reserved: int


def group_references(references: Sequence[ImageReference], policy: ReadPolicy) -> Iterator[Group]:
    """Cut references into tasks, in their order.

    Neighbouring small local files go together, and so do members near each other in a container.
    Every object of a bucket is a task of its own.
    """
    most_files = max(1, min(_GROUP_FILES, len(references) // _GROUP_FILES))
    group: list[ImageReference] = []
    reserved = 0
    for reference in references:
        size = _reserve(reference, policy.max_bytes)
        if group and not _fits(reference, size, group, reserved, most_files, policy):
            yield Group(group, reserved)
            group, reserved = [], 0
        group.append(reference)
        reserved += size
    if group:
        yield Group(group, reserved)


def _fits(
    reference: ImageReference,
    size: int,
    group: Sequence[ImageReference],
    reserved: int,
    most_files: int,
    policy: ReadPolicy,
) -> bool:
    """Tell whether a reference may join a group."""
    last, remote = group[-1], bool(scheme_of(reference.location))
    most_bytes = min(_SPAN_BYTES if remote else _GROUP_BYTES, policy.max_bytes_in_flight // 2)
    if reserved + size > most_bytes:
        return False
    if reference.member is None or last.member is None:
        neither = reference.member is None and last.member is None
        return neither and not remote and not scheme_of(last.location) and len(group) < most_files
    gap = reference.member.offset - last.member.offset - last.member.length
    first = group[0].member or last.member
    span = reference.member.offset + reference.member.length - first.offset
    return (
        reference.member.container == last.member.container
        and 0 <= gap <= _GAP
        and 0 < span <= most_bytes
        and len(group) < _SPAN_MEMBERS
    )


def _reserve(reference: ImageReference, max_bytes: int) -> int:
    """Bytes that reading ``reference`` can take: none if it is known to be too large."""
    size = reference.size
    if reference.member is not None:
        size = max(size, reference.member.length)
    if size < 0:
        return max_bytes
    return size if size <= max_bytes else 0
