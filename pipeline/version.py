"""Which versions speak here: a driver and its workers' image must agree on them."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def versions() -> str:
    """This program's, Python's and Beam's version, as the tag of a worker image: ``0.1.0-py3.11-beam2.77.0``."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{_installed('beam-image-features')}-py{python}-beam{_installed('apache-beam')}"


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # run from a folder that is not installed
        return "unknown"
