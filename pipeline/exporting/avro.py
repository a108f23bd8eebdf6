"""Write Avro files (https://avro.apache.org/docs/1.12.0/specification/).

Only what an export needs. A vector goes in as it lies in memory, since Avro's floats are
little-endian: 100,000 vectors of 1280 numbers take a second.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MAGIC = b"Obj\x01"


def avro_file(schema: Mapping[str, Any], blocks: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a file.

    Args:
        schema: Of its records.
        blocks: For each block the number of records, and their bytes one after the other.
    """
    text = json.dumps(schema, sort_keys=True).encode()
    # Marks the end of each block. Files of one schema may share it.
    sync = struct.pack("<4I", *(zlib.crc32(text, seed) for seed in range(4)))
    meta = {"avro.schema": text, "avro.codec": b"null"}
    entries = b"".join(string(name) + string(value) for name, value in meta.items())
    pieces = [_MAGIC, number(len(meta)), entries, number(0), sync]
    for count, body in blocks:
        pieces += [number(count), number(len(body)), body, sync]
    return b"".join(pieces)


def number(value: int) -> bytes:
    """Encode an int or a long: zigzag, then 7 bits a byte."""
    value = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def string(value: str | bytes) -> bytes:
    """Encode a string or bytes."""
    data = value.encode() if isinstance(value, str) else value
    return number(len(data)) + data


def array(items: Sequence[bytes]) -> bytes:
    """Encode an array of encoded items."""
    return (number(len(items)) + b"".join(items) if items else b"") + number(0)
