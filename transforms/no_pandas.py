"""Have Arrow do without pandas, which it imports at its first array: 0.25 to 0.6 s of a start."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _Hidden(MetaPathFinder):
    """Says that pandas is not installed."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Raise for pandas; leave other modules to the next finder."""
        if name == "pandas":
            raise ModuleNotFoundError(name, name=name)


def skip_pandas() -> None:
    """Have Arrow take pandas for not installed, for as long as this process lives.

    Only for a process that converts nothing to or from pandas. Arrow looks for pandas once; other
    code may import it afterwards.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(hidden)
