"""Walk through a TFRecord file of ``tf.train.Example``, and check each record's two crcs.

The format: TensorFlow's guide "TFRecord and tf.train.Example". A record is the length of its data
(8 bytes, little-endian), the masked crc32c of these, the data, and the data's masked crc32c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from transforms.carried import Carry
from transforms.containers.base import ContainerDamaged, Found, Wanted
from transforms.containers.bytes import ContainerFile
from transforms.containers.example import find_image, other_features
from transforms.errors import FailureKind
from transforms.file_names import Ignored

_HEAD = struct.Struct("<QL")
_CRC = struct.Struct("<L")
# A record is held in memory while it is checked.
_MAX_RECORD = 1 << 30


def walk(file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
    """Yield the records of a file, by their number; see ``transforms.containers.base.Walk``."""
    position = number = 0
    while head := file.read(position, _HEAD.size):
        length = _length(head, position)
        start = position + _HEAD.size
        end = start + length + _CRC.size
        name = f"{number:06d}"
        if length > _MAX_RECORD:
            if not file.reaches(end):
                raise _truncated(number, position, length)
            what = f"{FailureKind.TOO_LARGE.word}: a record of {length:,} bytes"
            yield Found(name, start, length, length, problem=f"{what}; {_MAX_RECORD:,} are read")
        else:
            data = file.read(start, end - start) if end <= file.size else b""
            if len(data) < end - start:
                raise _truncated(number, position, length)
            yield _record(name, data, start, wanted)
        position = end
        number += 1


def _truncated(number: int, position: int, length: int) -> ContainerDamaged:
    return ContainerDamaged(
        FailureKind.TRUNCATED,
        f"the file ends within record {number:,} at byte {position:,}, which should have "
        f"{length:,} bytes",
    )


def is_tfrecord(head: bytes) -> bool:
    """Tell whether a file that starts with these bytes (at least 12) is a TFRecord file."""
    try:
        return len(head) >= _HEAD.size and _length(head[: _HEAD.size], 0) >= 0
    except ContainerDamaged:
        return False


def _length(head: bytes, position: int) -> int:
    if len(head) < _HEAD.size:
        raise ContainerDamaged(
            FailureKind.TRUNCATED, f"the file ends within the record's length at byte {position:,}"
        )
    length, said = _HEAD.unpack(head)
    if said != masked_crc(head[:8]):
        # Nobody knows where the next record starts.
        raise ContainerDamaged(
            FailureKind.CORRUPT, f"the length of the record at byte {position:,} has a wrong crc"
        )
    return int(length)


def _record(name: str, data: bytes, start: int, wanted: Wanted) -> Found:
    """Find the image in a record's data, which is followed by its crc."""
    record, (said,) = data[: -_CRC.size], _CRC.unpack(data[-_CRC.size :])
    etag = f"crc32c-{said:08x}"
    size = len(record)
    if said != masked_crc(record):
        problem = f"{FailureKind.CORRUPT.word}: the record has a wrong crc"
        return Found(name, start, size, size, etag, problem=problem)
    try:
        image = find_image(record, wanted.column)
        source = _source(record, image, wanted.carry)
    except ContainerDamaged as error:
        return Found(name, start, size, size, etag, problem=error.problem)
    return Found(name, start + image.start, len(image), len(image), etag, source=source)


def _source(record: bytes, image: range, carry: Carry) -> str | None:
    """Return a record's carried values as JSON.

    Of a feature that was named, bytes that are not UTF-8 are spelled out: one odd record stops no
    run. ``all`` leaves out a feature that holds such bytes.
    """
    if not carry:
        return None
    features = other_features(record, image)
    if carry.everything:
        texts = {name: value for name, value in features.items() if not _has_bytes(value)}
        return carry.encode(texts)
    return carry.encode({name: _spelled(value) for name, value in features.items()})


def _has_bytes(value: Any) -> bool:
    return any(isinstance(one, bytes) for one in (value if isinstance(value, list) else [value]))


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def masked_crc(data: bytes) -> int:
    """Return TensorFlow's masked crc32c: rotated right by 15 bits, plus a constant."""
    import google_crc32c

    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
