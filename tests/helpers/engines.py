"""Share the engines of equal networks between tests: each takes a second to compile."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest

import transforms.engines
from transforms.engines import Engine, EngineConfig, read_exported

# Each takes some 300 MB.
_KEPT = 2
_kept: OrderedDict[tuple[object, ...], Engine] = OrderedDict()
_open = transforms.engines._open


def _share(config: EngineConfig) -> Engine:
    """Open an engine, or return the one of an equal network that an earlier test opened.

    The golden batch is computed again each time.
    """
    model = read_exported(Path(config.model))
    names = (*model.network.files, "model.json")
    sums = [hashlib.sha256((model.directory / name).read_bytes()).digest() for name in names]
    key = (*sums, config.engine, config.precision, config.cores)
    engine = _kept.pop(key, None) or _open(config)
    engine.model = model
    _kept[key] = engine
    while len(_kept) > _KEPT:
        _kept.popitem(last=False)
    return engine


@pytest.fixture
def own_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a test open engines of its own."""
    monkeypatch.setattr(transforms.engines, "_open", _open)


transforms.engines._open = _share
