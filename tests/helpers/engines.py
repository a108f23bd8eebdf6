"""Share the engines of equal networks between tests: each takes a second to compile."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import pytest

import transforms.engines
from transforms.engines import Engine, EngineConfig, base, read_exported

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


@pytest.fixture
def no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this machine show neither a GPU nor a TPU."""
    monkeypatch.setattr(base, "_DEVICES", tmp_path / "dev")
    monkeypatch.setattr(base, "_PCI", tmp_path / "pci")


@pytest.fixture
def gpu(no_device: None, tmp_path: Path) -> None:
    """Have this machine show a GPU, which it may not have."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()


@pytest.fixture
def tpu(no_device: None, tmp_path: Path) -> None:
    """Have this machine show Google's network card, and a TPU v5e."""
    for place, device in (("0000:00:04.0", "0x0042"), ("0000:00:05.0", "0x0063")):
        folder = tmp_path / "pci" / place
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x1ae0\n")
        (folder / "device").write_text(f"{device}\n")
