"""A temporary folder, for what libraries read from files or write to files only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transforms.storage import NoRoom, StorageError, is_full

# Of the names of temporary folders.
PREFIX = "image-features-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a temporary folder, and delete it when the body ends.

    Yields:
        The folder.

    Raises:
        StorageError: It cannot be made, or the disk gets full in the body.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=PREFIX)
    except OSError as error:
        raise no_temporary_folder(error) from error
    with folder as name:
        try:
            yield Path(name)
        except OSError as error:
            if not is_full(error):
                raise
            raise NoRoom(
                f"cannot write to {Path(name).parent}: {error.strerror or error}; make room there, "
                "or name another folder with TMPDIR"
            ) from error


def no_temporary_folder(error: OSError) -> StorageError:
    """Return the error for a machine where no temporary folder can be made or filled."""
    return StorageError(
        f"cannot write a temporary folder: {error.strerror or error}; make room there, or name "
        "another place with TMPDIR"
    )
