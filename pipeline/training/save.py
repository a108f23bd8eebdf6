"""Save a head with all that belongs to it: all files are written before any gets its name."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transforms.errors import UserError
from transforms.scratch import temporary_folder
from transforms.storage import local_path

# The time of all members of head.keras: equal heads are equal files.
_TIME = (1980, 1, 1, 0, 0, 0)
_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


def check_path(text: str) -> Path:
    """Return where a head is saved, after checking that it can be.

    Args:
        text: As ``--save``.

    Raises:
        UserError: It is no .keras file on this machine, or its folder cannot be written to.
    """
    local = local_path(text)
    if local is None:
        raise UserError(f"--save {text}: a file on this machine, not in a bucket")
    path = local.expanduser()
    if path.suffix != ".keras" or path.is_dir():
        raise UserError(f"--save {text}: name a file that ends in .keras, such as head.keras")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--save {text}: cannot write there ({error.strerror})") from error
    return path


def companions(path: Path) -> dict[str, Path]:
    """Return where the files beside a head lie: ``json``, ``csv`` and ``html``."""
    return {
        "json": path.with_suffix(".json"),
        "csv": path.with_name(f"{path.stem}-training.csv"),
        "html": path.with_name(f"{path.stem}-report.html"),
    }


def encode_keras(model: Any) -> bytes:
    """Return the content of ``head.keras``; equal models give equal bytes.

    Raises:
        StorageError: The temporary folder is full.
    """
    with temporary_folder() as folder:
        path = folder / "head.keras"
        model.save(path)
        with zipfile.ZipFile(path) as saved:
            members = {name: saved.read(name) for name in sorted(saved.namelist())}
    # Keras notes the time there.
    facts = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps(facts | {"date_saved": "1980-01-01@00:00:00"}).encode()
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(_renumbered(config, {})).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), data)
    return content.getvalue()


def _renumbered(config: Any, numbers: dict[int, int]) -> Any:
    """Number the shared objects of Keras from 0 on: it takes their addresses in memory."""
    if isinstance(config, list):
        return [_renumbered(item, numbers) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        name: numbers.setdefault(value, len(numbers))
        if name == "shared_object_id"
        else _renumbered(value, numbers)
        for name, value in config.items()
    }


def encode_csv(history: Sequence[Mapping[str, float]]) -> bytes:
    """Return the epochs as a CSV file, one line for each."""
    text = io.StringIO()
    columns = [name for name in _COLUMNS if any(name in line for line in history)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which the system takes back from a process that is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems have no locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files of one folder.

    When one cannot be written, all that were there stay as they were.

    Args:
        files: The content of each; the last one gets its name last.

    Raises:
        UserError: The disk is full, or a file cannot be written.
    """
    folder = next(iter(files)).parent
    try:
        with _one_writer(folder):
            _write(files)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror or error}; make room there, or --save "
            "elsewhere. What was there is as it was."
        ) from error


def _write(files: Mapping[Path, bytes]) -> None:
    # A process that was killed left such names, too: they are used again.
    temporaries = {path: path.with_name(f".tmp-{path.name}") for path in files}
    try:
        for path, temporary in temporaries.items():
            with temporary.open("wb") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
