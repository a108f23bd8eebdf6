"""Read tensors from ``torch.save`` files of the format before torch 1.6, without running code.

The format is a row of pickles (a magic number, a protocol version, facts about the machine, the
object, the storage keys) and then, key by key, an int64 count and the raw numbers of that storage.
A plain ``pickle.load`` would run whatever the file names; this reader knows four names and refuses
every other.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    numbers: int


class _Tensor(NamedTuple):
    """A view on a storage, whose numbers come later in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a file of tensors needs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"refused: the file names {module}.{name}, which is no tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        word, dtype, key, _location, numbers, view = pid
        if word != "storage" or view is not None:
            raise pickle.UnpicklingError(f"refused: {word!r} where a storage was expected")
        return _Storage(str(key), dtype, int(numbers))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a file: name → float32 or int64 array of the tensor's shape.

    Raises:
        pickle.UnpicklingError: The file has another format, names something that is no tensor, or
            is cut short.
    """
    with path.open("rb") as file:
        try:
            if _load(file) != _MAGIC or _load(file) != _VERSION:
                raise pickle.UnpicklingError(f"{path} is no file of torch.save in the old format")
            # Skip the byte order and word sizes of the machine that wrote the file: all such files
            # are little-endian.
            _load(file)
            tensors, keys = _load(file), _load(file)
            if not isinstance(tensors, Mapping) or not all(
                isinstance(t, _Tensor) for t in tensors.values()
            ):
                raise pickle.UnpicklingError(f"{path} holds more than tensors")
            dtypes = {t.storage.key: t.storage.dtype for t in tensors.values()}
            storages = {key: _read_storage(file, dtypes[key]) for key in keys}
        except (EOFError, ValueError, KeyError) as error:
            raise pickle.UnpicklingError(f"{path} is cut short or no file of torch.save") from error
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _load(file: BinaryIO) -> Any:
    return _Unpickler(file).load()


def _read_storage(file: BinaryIO, dtype: np.dtype[Any]) -> np.ndarray:
    count = int(np.frombuffer(file.read(8), "<i8")[0])
    numbers = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    if len(numbers) != count:
        raise EOFError
    return numbers


def _view(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    size = math.prod(tensor.shape)
    last = tensor.offset + sum(
        (n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True)
    )
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or (size and last >= len(numbers)):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    strides = [step * numbers.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()
