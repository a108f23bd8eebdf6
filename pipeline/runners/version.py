"""Tell the versions that a driver and its workers' image must agree on."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def versions() -> str:
    """Return the versions of this program, Python and Beam, as in the tag of a worker image.

    Returns:
        For example ``0.1.0-py3.11-beam2.77.0``.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{_installed('beam-image-features')}-py{python}-beam{_installed('apache-beam')}"


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        # The program runs from a folder that is not installed.
        return "unknown"
