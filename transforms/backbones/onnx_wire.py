"""The parts of an ONNX file that OpenVINO does not tell, read from the bytes themselves.

An ONNX file is one Protocol Buffers message. The numbers of its fields are those of onnx.proto
(github.com/onnx/onnx), and the encoding is that of protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from transforms.errors import UserError
from transforms.names import printable

# Which fields of a message hold messages that may lead to a tensor, and their kinds.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LENGTHS = {1: 8, 5: 4}  # bytes of a field of this wire type
_GRAPH, _OUTPUT, _NAME = 7, 12, 1


def external_files(model: Path) -> tuple[Path, ...]:
    """Return the files beside an ONNX file that hold some of its weights, sorted by name.

    Raises:
        UserError: The file is damaged, or a file is missing or lies outside the model's folder.
    """
    try:
        with (
            model.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as whole,
        ):
            names = external_names(whole, model)
    # An empty file cannot be mapped.
    except ValueError as error:
        raise _damaged(model, error) from error
    for name in names:
        if not (model.parent / name).is_file():
            raise UserError(
                f"--backbone {model}: keeps weights in {printable(name)}, which is not beside it; "
                "copy all files of the model into one folder"
            )
    return tuple(model.parent / name for name in names)


def external_names(data: bytes | memoryview, model: Path | str) -> tuple[str, ...]:
    """Return the names of these files, relative to the model's folder, sorted.

    Args:
        data: The content of the ONNX file.
        model: Its path or URL, for messages.

    Raises:
        UserError: The content is damaged, or a name leads out of the model's folder.
    """
    try:
        with memoryview(data) as whole:
            names = sorted(_locations(whole))
    except (ValueError, IndexError) as error:
        raise _damaged(model, error) from error
    for name in names:
        parts = name.split("/")
        if not name or "\0" in name or "\\" in name or not {"", ".."}.isdisjoint(parts):
            raise UserError(
                f"--backbone {model}: keeps weights in '{printable(name)}', which is outside its "
                "own folder; export it anew, with its weights beside it"
            )
    return tuple(names)


def _damaged(model: Path | str, error: Exception) -> UserError:
    return UserError(
        f"--backbone {model}: is no ONNX file, or is cut short ({error}); copy it again, or export "
        "the model anew"
    )


def _locations(whole: memoryview) -> set[str]:
    """Return what the tensors of a file name as the places of their numbers."""
    found: set[str] = set()
    seen = {"model"}
    waiting = [("model", 0, len(whole))]
    while waiting:
        kind, start, end = waiting.pop()
        for number, first, last in _fields(whole, start, end):
            inner = _INSIDE[kind].get(number)
            if inner == "entry":
                entry = {n: bytes(whole[a:b]) for n, a, b in _fields(whole, first, last)}
                if entry.get(1) == b"location":
                    found.add(entry.get(2, b"").decode("utf-8", "surrogateescape"))
            elif inner:
                seen.add(inner)
                waiting.append((inner, first, last))
    if "graph" not in seen:
        raise ValueError("it holds no graph")
    return found


def _fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field of a message that has a length.

    Raises:
        ValueError: The message is damaged.
    """
    place = start
    while place < end:
        tag, place = _varint(data, place, end)
        kind = tag & 7
        if kind == 0:
            _, place = _varint(data, place, end)
            continue
        if kind == 2:
            length, place = _varint(data, place, end)
        elif kind in _LENGTHS:
            length = _LENGTHS[kind]
        else:
            raise ValueError(f"byte {place} starts no field")
        if length > end - place:
            raise ValueError(f"byte {place} starts a field longer than the rest")
        if kind == 2:
            yield tag >> 3, place, place + length
        place += length


def _varint(data: memoryview, place: int, end: int) -> tuple[int, int]:
    """Return a number of up to ten bytes, the lowest seven bits first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"byte {place} ends no number")


def with_output(model: bytes, name: str) -> bytes:
    """Return an ONNX model that gives one more of its inner tensors.

    Two messages one after the other are their union, and lists are joined
    (protobuf.dev/programming-guides/encoding, "last one wins").
    """
    output = _message(_OUTPUT, _message(_NAME, name.encode()))
    return model + _message(_GRAPH, output)


def _message(number: int, content: bytes) -> bytes:
    length, encoded = len(content), bytearray([number << 3 | 2])
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*encoded, length]) + content
