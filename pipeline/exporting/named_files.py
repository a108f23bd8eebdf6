"""Large files at a destination, each named after its content, and a place to write new ones."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.exporting.state import taken_over
from transforms.errors import Refused, UserError
from transforms.storage import NotFound, Storage, StorageError, is_full, large, local_path

_SCRATCH = ".tmp-export-"


class NamedFiles:
    """The files of one kind of export.

    Args:
        storage: The destination.
        endings: The ending of each file, by its start, as in ``{"index": "faiss"}``.
    """

    def __init__(self, storage: Storage, endings: dict[str, str]) -> None:
        self._storage = storage
        self._endings = endings
        kinds = "|".join(rf"{start}-[0-9a-f]{{16}}\.{end}" for start, end in endings.items())
        self._pattern = re.compile(kinds)
        self._scratch: Path | None = None

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file that is there, by its key."""
        entries = self._storage.list()
        return {entry.key: entry.size for entry in entries if self._pattern.fullmatch(entry.key)}

    def check(self, noted: Mapping[str, int]) -> None:
        """Check that files are there with the sizes in bytes that were noted, by their keys.

        Raises:
            UserError: One has another size.
            Refused: One is gone, since another call has replaced it.
        """
        there = self.sizes()
        for key, size in noted.items():
            if there.get(key) != size:
                raise self._lost(key)

    def lost(self, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that are names of ours, and are not there."""
        there = self.sizes()
        return [key for key in keys if self._pattern.fullmatch(key) and key not in there]

    def delete_all(self, but: set[str] | None = None) -> None:
        """Delete the files that are there, but for some keys."""
        for key in self.sizes().keys() - (but or set()):
            self._storage.delete(key)

    def scratch(self) -> Path:
        """Return a folder for files to write, which ``close`` deletes.

        Raises:
            StorageError: It cannot be made.
        """
        if self._scratch is None:
            parent = large.scratch_folder(self._storage)
            with disk_errors(parent):
                parent.mkdir(parents=True, exist_ok=True)
                # Calls that were killed left theirs. One that is still at work has lost its turn.
                for left in parent.glob(f"{_SCRATCH}*") if local_path(self._storage.url) else ():
                    shutil.rmtree(left, ignore_errors=True)
                self._scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        return self._scratch

    def fetch(self, key: str, check: Callable[[Path], object]) -> Path:
        """Return a file of the last call on this machine, once its content is checked.

        Args:
            key: Its key.
            check: Raises ``ValueError`` for a file of another form.

        Raises:
            UserError: It is not what was written.
            Refused: It is gone, since another call has replaced it.
            StorageError: It cannot be read.
        """
        size = self.sizes().get(key)
        if size is not None:
            place = self.scratch() / f"old-{key}"
            try:
                with disk_errors(place.parent):
                    path = large.fetch_file(self._storage, key, place, size)
                    if self._name(path, key.partition("-")[0]) == key:
                        check(path)
                        return path
            except (NotFound, ValueError):
                pass
        raise self._lost(key)

    def _lost(self, key: str) -> UserError | Refused:
        if self.lost([key]):
            # It was there when the call began.
            return taken_over(self._storage.url)
        return UserError(
            f"{self._storage.url}/{key} is not what was written. Give --replace to send all rows "
            "anew"
        )

    def save(self, path: Path, start: str) -> dict[str, int]:
        """Store a file of the scratch folder, and return its key and its size in bytes.

        Raises:
            StorageError: It cannot be stored.
        """
        with disk_errors(path.parent):
            key, size = self._name(path, start), path.stat().st_size
            large.store_file(self._storage, key, path)
        return {key: size}

    def close(self) -> None:
        """Delete the scratch folder."""
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _name(self, path: Path, start: str) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{start}-{digest[:16]}.{self._endings[start]}"


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line.

    Raises:
        Refused: The folder is gone, since another call to the same destination deleted it.
        StorageError: Another error was raised.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not folder.exists():
            raise taken_over(str(folder.parent)) from error
        room = "; make room there" if is_full(error) else ""
        raise StorageError(f"cannot write to {folder}: {error.strerror}{room}") from error
