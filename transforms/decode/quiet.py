"""Silence for what Pillow and libtiff say about odd files.

It would fill the log without naming the file, and Python would keep each warning for good. What
counts is in the failure row.
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from contextlib import suppress
from functools import cache

from PIL import Image


@cache
def quiet_pillow() -> None:
    """Do so for this process; once is enough, and comes before the first image."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # A Pillow that hides its libtiff, as on Windows, still talks.
    with suppress(AttributeError, OSError):
        # The library that Pillow has loaded is found through its module.
        libtiff = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
