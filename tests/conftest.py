"""Fixtures of many test files: real photos, small folders of them, and runs in this process."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline.runners.quiet import hush
from tests.helpers.runs import make_folder

pytest_plugins = [
    f"tests.helpers.{name}"
    for name in (
        "s3_server",
        "outputs",
        "groups",
        "clusters",
        "launched",
        "browser",
        "exports",
        "engines",
    )
]
# Beam's workers and the test servers are local.
os.environ.setdefault("no_proxy", "localhost,127.0.0.1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Test files import Beam without the command line, and gRPC reads its settings then.
hush()


@pytest.fixture(scope="session")
def photos() -> Path:
    """Return the folder of sample photos that scikit-image ships."""
    spec = find_spec("skimage.data")
    assert spec
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, so that no process begins a long one last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put exported networks into one cache of the test run, not into the user's."""
    base = tmp_path_factory.getbasetemp()
    # Below the folder of the whole run, each process of pytest-xdist has one of its own.
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["XDG_CACHE_HOME"] = str(base / "cache")


@pytest.fixture(autouse=True)
def _unload() -> Iterator[None]:
    """Forget the networks of a test; ``tests.helpers.engines`` keeps a few of them."""
    yield
    from transforms.engines import unload_engines

    unload_engines()


@pytest.fixture(autouse=True)
def _freeze() -> Iterator[None]:
    """Keep Python from searching what earlier tests have left for garbage, such as whole libraries.

    Keras lets it search before each network, and that took half of the time of many tests.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """Make six small JPEGs of different photos, the first ones of the alphabet."""
    return make_folder(tmp_path / "images", photos)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs ``pipeline.extract`` on a folder into ``tmp_path/out``."""

    def start(inputs: Any, output: Path | str = tmp_path / "out", **options: Any) -> Any:
        from pipeline import Config, extract

        inputs = tuple(str(i) for i in (inputs if isinstance(inputs, list | tuple) else [inputs]))
        return extract(Config.of(inputs=inputs, output=str(output), **options))

    return start
