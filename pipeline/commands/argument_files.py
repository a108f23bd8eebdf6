"""Read options from files: ``@night.args`` stands for the words in that file."""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.commands.shipped import find_shipped
from transforms.errors import UserError

# A file may name other files; one that names itself would never end.
_MAX_DEPTH = 10
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def expand(words: Iterable[str], depth: int = 0) -> Iterator[str]:
    """Replace each ``@FILE`` by the words in that file.

    A file is split as a shell does: quotes hold words together, and ``#`` starts a comment.

    Args:
        words: Words of a command line.
        depth: How many files lie around these words.

    Yields:
        The words.

    Raises:
        UserError: A file cannot be read or split.
    """
    if depth > _MAX_DEPTH:
        raise UserError("an options file (@FILE) names itself, or too many files name each other")
    for word in words:
        if not word.startswith("@") or word == "@":
            yield word
            continue
        name = find_shipped(word)[1:]
        for number, line in enumerate(re.split(r"\r\n|\r|\n", _read(name)), 1):
            try:
                found = shlex.split(line, comments=True)
            except ValueError as error:
                raise UserError(f"{name}, line {number}: {str(error).lower()}: {line}") from error
            yield from expand(found, depth + 1)


def _read(name: str) -> str:
    """Return the text of a file in UTF-8, with or without a BOM, or in UTF-16 with a BOM."""
    try:
        encoded = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the options file {name}: {why}") from error
    try:
        text = encoded.decode("utf-16" if encoded.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"the options file {name} is not UTF-8; save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"the options file {name} holds zero bytes; save it as UTF-8")
    return text
