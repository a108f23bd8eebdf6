"""Find the encoded image inside a serialized ``tf.train.Example``, without parsing the image.

The messages: TensorFlow's ``example.proto`` and ``feature.proto``. The encoding: the protocol
buffers' documentation, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

from transforms.containers.base import ContainerDamaged
from transforms.errors import FailureKind

# Features that hold the image, by TensorFlow's conventions and those of its data sets.
USUAL = ("image/encoded", "image", "image_raw", "jpg", "jpeg", "png", "webp")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Named in a message.
_SHOWN = 10
# Of one record. A GiB of empty features would take 34 GiB as Python's objects.
_MAX_FEATURES = 10_000


def find_image(record: bytes, column: str | None) -> range:
    """Return where the encoded image lies in a record.

    Args:
        record: A serialized ``tf.train.Example``.
        column: Name of the feature; None for the first of ``USUAL``.

    Raises:
        ContainerDamaged: The record is no Example, or has no such feature of one byte string.
    """
    named = list(islice(_features(record), _MAX_FEATURES + 1))
    if len(named) > _MAX_FEATURES:
        raise ContainerDamaged(
            FailureKind.UNSUPPORTED, f"the record has more than {_MAX_FEATURES:,} features"
        )
    features = dict(named)
    name = column or next((name for name in USUAL if name in features), None)
    if name is None or name not in features:
        wanted = f"no feature {column!r}" if column else f"none of the features {', '.join(USUAL)}"
        there = ", ".join(sorted(features)[:_SHOWN]) or "none"
        raise ContainerDamaged(
            FailureKind.UNSUPPORTED,
            f"the record has {wanted}; it has {there}; name one with --image-column",
        )
    image, count = range(0), 0
    for kind, listed in _fields(record, features[name]):
        for number, value in _fields(record, listed) if kind == 1 else ():
            if number == 1:
                image, count = value, count + 1
    if count != 1:
        raise ContainerDamaged(
            FailureKind.UNSUPPORTED,
            f"the feature {name!r} holds {count:,} byte strings; an image is one",
        )
    return image


def other_features(record: bytes, image: range) -> dict[str, Any]:
    """Return the values of the features of a record besides its image.

    One value stands for itself, others are a list. Bytes that are UTF-8 are text.

    Raises:
        ContainerDamaged: The record is no Example.
    """
    found: dict[str, Any] = {}
    for name, place in _features(record):
        if not (place.start <= image.start and image.stop <= place.stop):
            values = [
                value for kind, at in _fields(record, place) for value in _list(record, kind, at)
            ]
            found[name] = values[0] if len(values) == 1 else values
    return found


def _list(record: bytes, kind: int, place: range) -> Iterator[Any]:
    """Yield the values of a BytesList (1), FloatList (2) or Int64List (3)."""
    for number, at in _fields(record, place):
        if number != 1:
            continue
        if kind == 1:
            yield _text(record[at.start : at.stop])
        elif kind == 2:
            yield from struct.unpack(
                f"<{len(at) // 4}f", record[at.start : at.start + len(at) // 4 * 4]
            )
        elif kind == 3:
            position = at.start
            while position < at.stop:
                value, position = _varint(record, position)
                yield (value & (1 << 64) - 1) - (1 << 64) * (value >> 63 & 1)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _features(record: bytes) -> Iterator[tuple[str, range]]:
    """Yield the name of each feature, and where its value lies."""
    for number, features in _fields(record, range(len(record))):
        if number != 1:
            continue
        for key, entry in _fields(record, features):
            if key == 1:
                parts = {part: at for part, at in _fields(record, entry) if part in (1, 2)}
                if 1 in parts and 2 in parts:
                    name = record[parts[1].start : parts[1].stop]
                    yield name.decode("utf-8", "backslashreplace"), parts[2]


def _fields(record: bytes, within: range) -> Iterator[tuple[int, range]]:
    """Yield number and place of each field of a message that has a length; skip the others."""
    position = within.start
    while position < within.stop:
        key, position = _varint(record, position)
        kind = key & 7
        if kind == _VARINT:
            _, position = _varint(record, position)
            continue
        if kind == _BYTES:
            length, position = _varint(record, position)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(kind, len(record))
        if position + length > within.stop:
            raise _no_example()
        if kind == _BYTES:
            yield key >> 3, range(position, position + length)
        position += length


def _varint(record: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(record):
            break
        byte = record[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise _no_example()


def _no_example() -> ContainerDamaged:
    return ContainerDamaged(FailureKind.CORRUPT, "the record is no tf.train.Example")
