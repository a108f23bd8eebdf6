"""Save a trained network: ``model.keras``, and ``model.json`` that says how it takes images."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.training.unfreeze.checkpoint import replace_file
from transforms.backbones.model_json import Description, encode, path_beside
from transforms.backbones.spec import file_sha256
from transforms.errors import UserError


def check_path(save: str) -> Path:
    """Return where the model goes.

    Raises:
        UserError: It is no name of a ``.keras`` file in a folder of this machine.
    """
    path = Path(save).expanduser()
    if "://" in save:
        raise UserError(f"--save {save}: must be a file of this machine; copy it to a bucket later")
    if path.suffix != ".keras":
        raise UserError(f"--save {save}: a whole network needs a name that ends with .keras")
    if path.is_dir():
        raise UserError(f"--save {save}: is a folder; give the name of a file in it")
    return path


def save_model(
    model: Any, path: Path, folder: Path, describe: Callable[[str], Description]
) -> None:
    """Write both files.

    Each is written whole before it takes the place of an earlier one. A process that is killed
    between the two leaves a pair that does not fit together: its readers refuse it, and the same
    command writes both again.

    Args:
        model: A ``keras.Model`` in float32. It is saved without its optimizer.
        path: Where ``model.keras`` goes.
        folder: On the same disk; holds the files until they are whole.
        describe: Returns the description for the sha256 of the model's file.

    Raises:
        UserError: The disk is full, or a file cannot be written; the earlier files stay.
    """
    import keras

    # Keras goes by the ending of the name.
    temporary = folder / f".tmp-{path.name}"
    try:
        keras.Model(model.input, model.output).save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        description = encode(describe(file_sha256(temporary)))
        beside = path_beside(path)
        new = folder / f".tmp-{beside.name}"
        replace_file(new, lambda file: file.write(description))
        temporary.replace(path)
        new.replace(beside)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; make room there, or --save elsewhere"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
