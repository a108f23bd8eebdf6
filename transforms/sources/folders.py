"""Read local folders."""

from __future__ import annotations

import os

from transforms.errors import UserError


def scan(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name; none if there is no such folder.

    Raises:
        UserError: If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        # Not a folder, or deleted since: nothing to list.
        return []
    except OSError as error:
        raise UserError(f"cannot list the folder {folder}: {error.strerror}") from error


def real_folder(root: str) -> str:
    """Return the path of a folder without links, and with a slash at the end."""
    return f"{os.path.realpath(root).rstrip('/')}/"


def leads_inside(real_root: str, link: str) -> bool:
    """Tell whether a link ends below the root: it must not reach other files of this machine.

    Args:
        real_root: What ``real_folder`` returns for the root.
        link: Path of the link.
    """
    return os.path.realpath(link).startswith(real_root)
