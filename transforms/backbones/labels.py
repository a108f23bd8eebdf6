"""Label sets: ImageNet's thousand, or a text file of the user's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from transforms.errors import UserError

_IMAGENET = Path(__file__).with_name("imagenet_labels.txt")


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's 1000 names in the order of its classes.

    Two names occur twice: tell classes by their index.
    """
    return tuple(_IMAGENET.read_text(encoding="utf-8").splitlines())


def read_labels(path: str, option: str = "labels") -> tuple[str, ...]:
    """Read a text file with one label a line, the first for class 0.

    Args:
        path: The file.
        option: The option that names it, for messages.

    Raises:
        UserError: A file that cannot be read, is empty, or has an empty line between labels.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--{option} {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--{option} {path}: is no UTF-8 text; give one label a line") from error
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise UserError(f"--{option} {path}: is empty; give one label a line")
    if "" in lines:
        raise UserError(
            f"--{option} {path}: line {lines.index('') + 1} is empty; its class would have no "
            "name. Give one label a line, the first for class 0"
        )
    return tuple(lines)


def is_text(value: object) -> bool:
    """Tell whether a value is a text, and not empty; JSON may hold half a character."""
    # Half a character (a lone surrogate) becomes "?".
    return (
        isinstance(value, str) and bool(value) and value == value.encode(errors="replace").decode()
    )


def labels_sha256(labels: tuple[str, ...]) -> str:
    """Return the sha256 of the labels, joined by newlines."""
    return hashlib.sha256("\n".join(labels).encode()).hexdigest()
