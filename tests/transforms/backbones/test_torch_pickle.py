"""The restricted reader of torch's old format, on files written by hand and on the embedded one."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transforms.backbones.lite import embedded_weights
from transforms.backbones.torch_pickle import read_tensors

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class _Global:
    """Pickles as a name of a module, as torch's own classes do."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


def _pickle(value: Any) -> bytes:
    """Write a protocol-2 pickle of what torch writes; names are not imported."""
    if isinstance(value, _Global):
        return b"c" + value.name.replace(" ", "\n").encode() + b"\n"
    if isinstance(value, _Call):
        return _pickle(value.function) + _pickle(value.arguments) + b"R"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_pickle, value)) + b"t"
    if isinstance(value, dict):
        items = b"".join(_pickle(k) + _pickle(v) for k, v in value.items())
        return _pickle(_Global("collections OrderedDict")) + b")R(" + items + b"u"
    if isinstance(value, _Persistent):
        return _pickle(value.content) + b"Q"
    return pickle.dumps(value, protocol=2)[2:-1]


class _Persistent:
    def __init__(self, *content: Any) -> None:
        self.content = content


def _tensor(
    key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: str = "Float"
) -> _Call:
    storage = _Persistent("storage", _Global(f"torch {kind}Storage"), key, "cpu", 6, None)
    return _Call(
        _Global("torch._utils _rebuild_tensor_v2"),
        storage,
        offset,
        shape,
        strides,
        False,
        OrderedDict(),
    )


def _file(path: Path, content: Any, storages: dict[str, np.ndarray]) -> Path:
    parts: list[Any] = [MAGIC, VERSION, {"little_endian": True}, content, list(storages)]
    data = b"".join(b"\x80\x02" + _pickle(part) + b"." for part in parts)
    data += b"".join(struct.pack("<q", len(s)) + s.tobytes() for s in storages.values())
    path.write_bytes(data)
    return path


def test_reads_tensors_by_shape_offset_and_stride(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype="<f4")
    content = {"whole": _tensor("0", 0, (2, 3), (3, 1)), "turned": _tensor("0", 1, (2, 2), (1, 3))}
    tensors = read_tensors(_file(tmp_path / "x.pth", content, {"0": numbers}))
    np.testing.assert_array_equal(tensors["whole"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["turned"], [[1, 4], [2, 5]])


def test_runs_nothing_that_the_file_names(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = _file(tmp_path / "x.pth", {"x": _Call(_Global("os system"), f"touch {touched}")}, {})
    with pytest.raises(pickle.UnpicklingError, match=r"refused: the file names os\.system"):
        read_tensors(path)
    assert not touched.exists()
    with path.open("rb") as file:
        # The same file does run it under plain pickle
        for _ in range(5):
            pickle.load(file)
    assert touched.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": 3}, "more than tensors"),
        ({"x": _tensor("0", 0, (7,), (1,))}, "beyond its storage"),
        ({"x": _tensor("0", -1, (2,), (1,))}, "beyond its storage"),
        ({"x": _tensor("0", 0, (2,), (1,), "Half")}, r"torch\.HalfStorage"),
        ({"x": _tensor("other", 0, (2,), (1,))}, "cut short or no file"),
    ],
)
def test_refuses_what_is_no_tensor(content: Any, message: str, tmp_path: Path) -> None:
    path = _file(tmp_path / "x.pth", content, {"0": np.arange(6, dtype="<f4")})
    with pytest.raises(pickle.UnpicklingError, match=message):
        read_tensors(path)


def test_refuses_a_short_file_and_another_format(tmp_path: Path) -> None:
    short = tmp_path / "short.pth"
    short.write_bytes(embedded_weights("efficientnet_lite0").read_bytes()[:-1000])
    with pytest.raises(pickle.UnpicklingError, match="cut short"):
        read_tensors(short)
    other = tmp_path / "other.pth"
    other.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(pickle.UnpicklingError, match="no file of torch"):
        read_tensors(other)


def test_reads_the_embedded_file() -> None:
    tensors = read_tensors(embedded_weights("efficientnet_lite0"))
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
