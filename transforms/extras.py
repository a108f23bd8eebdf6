"""Say how to install what an extra adds, for messages."""

from __future__ import annotations

import re
from importlib import metadata
from shlex import quote

_DISTRIBUTION = "beam-image-features"


def install_command(extra: str) -> str:
    """Return a command that installs what an extra adds, such as ``pip install 'openvino'``.

    It names the packages themselves: no index has this one.

    Args:
        extra: Name of an extra of setup.py.
    """
    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        requirements = []
    wanted = re.compile(rf";.*\bextra == ['\"]{extra}['\"]")
    packages = [
        requirement.partition(";")[0].strip()
        for requirement in requirements
        if wanted.search(requirement)
    ]
    # Without metadata, this is a checkout.
    return f"pip install {' '.join(map(quote, packages)) or quote(f'.[{extra}]')}"
