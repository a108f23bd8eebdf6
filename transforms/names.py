"""Names as a terminal may see them: whoever names a file writes no control characters there."""

from __future__ import annotations

import unicodedata

# Control, format (direction marks), lone surrogates, line separators.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(name: str) -> str:
    r"""Escape the characters that a terminal obeys, such as ``\x1b`` or ``\u202e``."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(map(_shown, name))


def printable_lines(text: str) -> str:
    """Do the same to a text of several lines, whose line breaks are meant."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return (
        character.encode("ascii", "backslashreplace").decode()
        if ord(character) > 127
        else _ascii(character)
    )


def _ascii(character: str) -> str:
    return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(character, f"\\x{ord(character):02x}")
