"""One run: options → config → plan, extract, publish.

From Python: ``pipeline.extract(pipeline.Config(inputs=("photos",), output="features"))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.runners.quiet import hush

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.run import extract
    from pipeline.state.summary import Summary

__all__ = ["Config", "Summary", "extract"]

_HOMES = {"Config": "pipeline.config", "Summary": "pipeline.state.summary", "extract": "pipeline.run"}


hush()


def __getattr__(name: str) -> Any:
    """Import on first use: ``image-features --help`` must not wait for Arrow, Beam or TensorFlow."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
