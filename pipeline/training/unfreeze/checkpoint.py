"""The state of a training after an epoch, in one file that replaces the one before at once.

Keras' BackupAndRestore overwrites its files in place: a kill while it writes loses them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from transforms.errors import UserError

# Its name in the folder of a training.
CHECKPOINT = "checkpoint.npz"


@dataclass(slots=True)
class State:
    """How far a training is."""

    # One mapping for each epoch that is done: its number, losses and accuracies.
    history: list[dict[str, float]] = field(default_factory=list)
    # Variables of the model after the best epoch.
    best: list[np.ndarray] = field(default_factory=list)
    # Of the model, and then of the optimizer, after the last epoch.
    variables: list[np.ndarray] = field(default_factory=list)


def save_state(state: State, path: Path) -> None:
    """Write the state.

    Raises:
        UserError: The disk is full, or the file cannot be written; the one before stays.
    """
    arrays = {f"best{number}": array for number, array in enumerate(state.best)}
    arrays |= {f"last{number}": array for number, array in enumerate(state.variables)}
    history = np.frombuffer(json.dumps(state.history).encode(), np.uint8)

    def write(file: BinaryIO) -> None:
        np.savez(file, allow_pickle=False, history=history, **arrays)

    replace_file(path, write)


def load_state(path: Path) -> State | None:
    """Read the state; return None when there is none, or when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            history = json.loads(arrays["history"].tobytes())
            return State(history, _numbered(arrays, "best"), _numbered(arrays, "last"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _numbered(arrays: Mapping[str, np.ndarray], word: str) -> list[np.ndarray]:
    names = [name for name in arrays if name.startswith(word)]
    return [arrays[f"{word}{number}"] for number in range(len(names))]


def values_of(variables: Sequence[Any]) -> list[np.ndarray]:
    """Return the values of Keras variables."""
    return [np.array(variable) for variable in variables]


def assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Set Keras variables to the values that ``values_of`` returned."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def replace_file(path: Path, write: Any) -> None:
    """Write a file whole, under another name, and then give it its name.

    Args:
        path: The file.
        write: Called with the open binary file.

    Raises:
        UserError: It cannot be written; a file that was there stays as it was.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; make room there, or --save elsewhere"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
