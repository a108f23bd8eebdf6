"""Addresses of databases: ``URL#NAME`` names a table or a collection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from transforms.errors import RunFailed, UserError

# What every database takes as a name without surprises.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


def split_dest(dest: str, name: str) -> tuple[str, str]:
    """Split ``URL#NAME`` into the address of the database and the name.

    Args:
        dest: As the user wrote it.
        name: What is taken when there is none.

    Raises:
        UserError: The name is not one that every database takes.
    """
    url, _, given = dest.partition("#")
    chosen = given or name.replace("-", "_")
    if not _NAME.fullmatch(chosen):
        raise UserError(
            f"--dest {dest}: {given!r} cannot be a name; use up to 63 letters, digits, _ and -, "
            "and a letter or _ first"
        )
    return url, chosen


def check_secrets(dest: str) -> None:
    """Check that an address holds no password, which logs and shells would keep.

    Raises:
        UserError: It holds one. The message does not show it.
    """
    if re.search(r"://[^/@]*:[^/@]*@", dest) or re.search(
        r"(?i)(password|secret|token|api_?key)=", dest
    ):
        raise UserError(
            "--dest holds a password. Leave it out: each client takes its credentials from its own "
            "environment (docs/exports.md)"
        )


@contextmanager
def database_errors(
    program: str, dest: str, failures: tuple[type[Exception], ...]
) -> Iterator[None]:
    """Turn what a database's client raises into one line.

    Args:
        program: Name of the database.
        dest: As the user wrote it.
        failures: What its client raises.

    Raises:
        RunFailed: One of them was raised.
    """
    try:
        yield
    except failures as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunFailed(f"{program} failed at {dest}: {text}") from error
