"""Silence the messages of Pillow and libtiff about odd files.

They would fill the log without naming the file, and Python would keep each warning in memory. The
failure row has what matters.
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
    """Silence Pillow and libtiff in this process; one call is enough, before the first image."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # Pillow's module gives access to the libtiff that it has loaded. Where Pillow hides it, as on
    # Windows, libtiff's messages stay.
    with suppress(AttributeError, OSError):
        libtiff = ctypes.CDLL(Image.core.__file__)  # type: ignore[attr-defined]
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)
